"""A teacher: a trained model whose probabilities a training imitates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from iagraph.data import JetDataset, JetLoader
from iagraph.models import CheckpointError
from iagraph.models.registry import TrainedModel, load
from iagraph.train.config import DistillConfig

BATCH = 64
"""Jets that the teacher sees at once."""


def teach(jets: JetDataset, config: DistillConfig, device: torch.device) -> None:
    """Give training jets the targets of a teacher, which sees its own view of them.

    Raises:
        CheckpointError: there is no such teacher, its run is damaged, it has other classes, or needs data that the jets
            lack.
    """
    try:
        model = load(config.teacher).to(device)
        if model.classes != jets.classes:
            raise CheckpointError(f"{config.teacher} has the classes {model.classes}, these jets {jets.classes}")
        jets.targets = targets(model, jets, config.weight, device)
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"distill.teacher: {error}; name another one, or set distill=null") from error


@torch.no_grad()
def targets(model: TrainedModel, jets: JetDataset, weight: float, device: torch.device) -> Tensor:
    r"""Labels mixed with the probabilities of a trained model (distillation, arXiv 1503.02531, at temperature 1).

    The target of a jet of class :math:`y` is

    .. math:: t_k = (1 - w)\,\delta_{ky} + w\,p_k

    with the model's probability :math:`p_k` of class :math:`k`. The cross entropy with it is :math:`1 - w` times that
    with the label, plus :math:`w` times that with the model.

    Args:
        model: the teacher, on ``device``.
        jets: the jets; their order is kept.
        weight: :math:`w`, from 0 to 1.
        device: where to compute.

    Returns:
        On the CPU, shape [jets, classes].
    """
    found = torch.cat([model.probabilities(batch.to(device)).cpu() for batch in JetLoader(jets, BATCH)])
    return torch.lerp(one_hot(jets.label, found.size(1)).to(found), found, weight)
