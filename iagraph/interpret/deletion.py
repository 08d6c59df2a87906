"""Deletion test of relevance: the evidence for a decision after particles are dropped, the most relevant first."""

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
"""Fractions of a jet's particles to drop."""


def drop_first(jets: JetBatch, worth: Tensor, fraction: float) -> JetBatch:
    """The jets without their particles of highest ``worth``.

    Jet momentum and axis, and features relative to them, are recomputed from the kept particles.

    Args:
        jets: the jets.
        worth: decides which particles are dropped, shape [particles].
        fraction: fraction of each jet's particles to drop, rounded down to whole particles.
    """
    dropped = (jets.ptr.diff() * fraction + 1e-6).long()  # 0.3 of 10 is 3 despite rounding errors
    return keep(jets, ranks(worth, jets) >= dropped[jets.batch])


@torch.inference_mode()
def deletion_logits(
    model: AttentionModel, jets: JetBatch, worth: Tensor, fractions: Sequence[float] = FRACTIONS
) -> Tensor:
    """Logits of jets that lose their particles in order of decreasing ``worth``.

    Args:
        model: in evaluation mode.
        jets: the jets, on the model's device.
        worth: decides the order of dropping, shape [particles].
        fractions: fractions of particles dropped.

    Returns:
        Shape [fractions, jets, classes].
    """
    return torch.stack([model(drop_first(jets, worth, fraction)) for fraction in fractions])


def decision_left(logits: Tensor, classes: Tensor) -> Tensor:
    """Evidence left in favour of the decision on the whole jet; negative once the decision flips.

    Args:
        logits: from :func:`deletion_logits`, where the first fraction must be 0; shape [fractions, jets, classes].
        classes: explained class of each jet, shape [jets]. The decision is for or against it.

    Returns:
        Shape [fractions, jets].
    """
    values = torch.stack([evidence(each, classes) for each in logits])
    return values * decided(values[0])


def decided(value: Tensor) -> Tensor:
    """Decision that follows from the evidence: 1 for the class, -1 against it; shape [jets]."""
    return torch.where(value < 0, -1.0, 1.0).to(value)


def areas(left: Tensor, fractions: Sequence[float] = FRACTIONS) -> Tensor:
    """Evidence for each jet's decision, averaged over the fractions by the trapezoidal rule; shape [jets].

    Args:
        left: from :func:`decision_left`, shape [fractions, jets].
        fractions: fractions of particles dropped.
    """
    x = torch.tensor(fractions, dtype=left.dtype, device=left.device)
    return torch.trapezoid(left, x, dim=0) / (x[-1] - x[0])


def relative_area(left: Tensor, fractions: Sequence[float] = FRACTIONS) -> Estimate:
    """Area under the deletion curve of all jets, 1 if no evidence is lost; arguments as in :func:`areas`.

    Smaller means more faithful if the most relevant particles are dropped first.
    """
    return ratio(areas(left, fractions), left[0])


def faithfulness(most: Tensor, least: Tensor, fractions: Sequence[float] = FRACTIONS) -> Estimate:
    """Area between two deletion curves of the same jets, in units of the evidence on whole jets.

    Args:
        most: evidence with the most relevant particles dropped first, shape [fractions, jets].
        least: likewise with the least relevant particles dropped first.
        fractions: fractions of particles dropped.
    """
    return ratio(areas(least, fractions) - areas(most, fractions), most[0])
