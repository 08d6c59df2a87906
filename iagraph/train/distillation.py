"""A teacher: a trained model whose probabilities a training imitates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from iagraph.jets import JetBatch
from iagraph.models import CheckpointError
from iagraph.models.registry import TrainedModel, load
from iagraph.train.config import DistillConfig


class Teacher:
    r"""Mixes labels with the probabilities of a trained model (distillation, arXiv 1503.02531, at temperature 1).

    The target of a jet of class :math:`y` is :math:`t_k = (1 - w)\,\delta_{ky} + w\,p_k`, for the teacher's probability
    :math:`p_k` of class :math:`k`. The cross entropy with it is :math:`1 - w` times that with the label, plus :math:`w`
    times that with the teacher.

    Not a module of the network that it teaches: checkpoints and weights of that do not contain it.

    Args:
        model: the teacher; it sees its own view of the jets.
        weight: :math:`w`, in (0, 1].
    """

    def __init__(self, model: TrainedModel, weight: float) -> None:
        self.model, self.weight = model, weight

    @torch.no_grad()
    def targets(self, jets: JetBatch, labels: Tensor) -> Tensor:
        """Targets, shape [jets, classes], for labels of shape [jets]."""
        probabilities = self.model.probabilities(jets)
        return torch.lerp(one_hot(labels, len(self.model.classes)).to(probabilities), probabilities, self.weight)


def load_teacher(config: DistillConfig, classes: Sequence[str], example: JetBatch) -> Teacher:
    """The teacher of a training.

    Args:
        config: its run and weight.
        classes: classes of the training jets.
        example: a few of these jets.

    Raises:
        CheckpointError: there is no such run, it is damaged, has other classes, or needs data that these jets lack.
    """
    try:
        model = load(config.teacher)
        if model.classes != tuple(classes):
            raise CheckpointError(f"{config.teacher} has the classes {model.classes}, these jets {tuple(classes)}")
        teacher = Teacher(model, config.weight)
        teacher.targets(example, torch.zeros(len(example), dtype=torch.int64))
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"distill.teacher: {error}; name another one, or set distill=null") from error
    return teacher
