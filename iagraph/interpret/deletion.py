"""The deletion test of relevance: what is left of a decision when particles are taken away, the most relevant first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iagraph.estimates import ratio
from iagraph.interpret.particles import keep, ranks
from iagraph.interpret.recording import AttentionModel
from iagraph.interpret.relevance import evidence
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
"""Of the particles of a jet, how many are dropped."""


def drop_first(jets: JetBatch, worth: Tensor, fraction: float) -> JetBatch:
    """The jets without the particles of the highest worth.

    Features of jets (their momentum and axis, fractions of it) are those of what is left.

    Args:
        jets: the jets.
        worth: shape [particles].
        fraction: of the particles of each jet, rounded down to whole ones.
    """
    dropped = (jets.ptr.diff() * fraction + 1e-6).long()  # 0.3 of 10 are 3, whatever the last bit
    return keep(jets, ranks(worth, jets) >= dropped[jets.batch])


@torch.inference_mode()
def deletion_logits(
    model: AttentionModel, jets: JetBatch, worth: Tensor, fractions: Sequence[float] = FRACTIONS
) -> Tensor:
    """Logits of jets that lose their particles in the order of falling worth.

    Args:
        model: in evaluation mode.
        jets: the jets, on its device.
        worth: shape [particles].
        fractions: how many of the particles are dropped.

    Returns:
        Shape [fractions, jets, classes].
    """
    return torch.stack([model(drop_first(jets, worth, fraction)) for fraction in fractions])


def decision_left(logits: Tensor, classes: Tensor) -> Tensor:
    """The evidence for what a model decided on whole jets, negative once it decides otherwise.

    Args:
        logits: those of :func:`deletion_logits`, the first ones of whole jets; shape [fractions, jets, classes].
        classes: the class of each jet whose evidence is explained, shape [jets]. What was decided is this class or not.

    Returns:
        Shape [fractions, jets].
    """
    values = torch.stack([evidence(each, classes) for each in logits])
    return values * decided(values[0])


def decided(value: Tensor) -> Tensor:
    """1 where a model decides for a class, -1 where it decides against it, by the evidence; shape [jets]."""
    return torch.where(value < 0, -1.0, 1.0).to(value)


def areas(left: Tensor, fractions: Sequence[float] = FRACTIONS) -> Tensor:
    """The mean over the fractions (trapezoidal) of what is left of each jet's decision, shape [jets].

    Args:
        left: that of :func:`decision_left`, shape [fractions, jets].
        fractions: how many of the particles are dropped.
    """
    x = torch.tensor(fractions, dtype=left.dtype, device=left.device)
    return torch.trapezoid(left, x, dim=0) / (x[-1] - x[0])


def relative_area(left: Tensor, fractions: Sequence[float] = FRACTIONS) -> Estimate:
    """The area under a deletion curve over all jets, 1 if nothing of the evidence is lost; arguments as before.

    The smaller, the more faithful a relevance whose highest values are dropped first.
    """
    return ratio(areas(left, fractions), left[0])


def faithfulness(most: Tensor, least: Tensor, fractions: Sequence[float] = FRACTIONS) -> Estimate:
    """The area between two deletion curves of the same jets, in units of the evidence of whole jets.

    Args:
        most: the most relevant particles are dropped first; shape [fractions, jets].
        least: the least relevant ones are dropped first.
        fractions: how many of the particles are dropped.
    """
    return ratio(areas(least, fractions) - areas(most, fractions), most[0])
