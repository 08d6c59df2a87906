"""A teacher: a trained model whose probabilities a training imitates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from iagraph.data import JetDataset, JetLoader, JetSource
from iagraph.jets import JetBatch
from iagraph.models import CheckpointError
from iagraph.models.registry import TrainedModel, load

BATCH = 64
"""Jets that the teacher sees at once."""


def load_teacher(run: str, jets: JetSource) -> TrainedModel:
    """The teacher for some jets, tried on the first of them.

    Args:
        run: a run folder, or ``pretrained:NAME``.
        jets: the training jets, as the student sees them.

    Raises:
        CheckpointError: there is no such run, it is damaged, has other classes, needs data that the jets lack, or gives
            no finite probabilities.
    """
    try:
        model = load(run)
        if model.classes != jets.classes:
            raise CheckpointError(f"{run} has the classes {model.classes}, these jets {jets.classes}")
        _probabilities(model, jets[:1])
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"distill.teacher: {error}; name another one, or set distill=null") from error
    return model


def targets(model: TrainedModel, jets: JetDataset, weight: float, device: torch.device) -> Tensor:
    r"""Labels mixed with the probabilities of a trained model (distillation, arXiv 1503.02531, at temperature 1).

    The target of a jet of class :math:`y` is

    .. math:: t_k = (1 - w)\,\delta_{ky} + w\,p_k

    with the model's probability :math:`p_k` of class :math:`k`. The cross entropy with it is :math:`1 - w` times that
    with the label, plus :math:`w` times that with the model.

    Args:
        model: the teacher; what it sees are the jets as given, within its own view.
        jets: the jets; their order is kept.
        weight: :math:`w`, from 0 to 1.
        device: where to compute.

    Returns:
        On the CPU, shape [jets, classes].

    Raises:
        CheckpointError: a probability is not finite.
    """
    model = model.to(device)
    found = torch.cat([_probabilities(model, batch.to(device)).cpu() for batch in JetLoader(jets, BATCH)])
    return torch.lerp(one_hot(jets.label, found.size(1)).to(found), found, weight)


def _probabilities(model: TrainedModel, jets: JetBatch) -> Tensor:
    with torch.no_grad():
        found = model.probabilities(jets)
    if not found.isfinite().all():
        raise CheckpointError("its probabilities are not finite on some training jets")
    return found
