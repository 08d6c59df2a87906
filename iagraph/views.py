"""What a model sees of a jet: how many of its particles, and whether with their masses.

A view is part of a trained model, as its features are. It is stored with the weights and applied wherever the model is,
so that the same jets give the same results in training, evaluation, a loaded model and an exported file.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from iagraph.jets import JetBatch, PaddedJets
from iagraph.kinematics import Impact

Masses = Literal["stored", "zero"]

FEWEST_PARTICLES = 100
"""Jets with fewer particles in all are not checked for masses: a few photons have none."""


class Hardest(NamedTuple):
    """Which particles are kept.

    Attributes:
        particles: their places, jet by jet, in descending order of pT.
        ptr: where those of each jet begin and end, int64, shape [jets + 1].
    """

    particles: Tensor
    ptr: Tensor


def hardest(pt: Tensor, ptr: Tensor, max_particles: int) -> Hardest:
    """The particles of highest pT of each jet; of equal ones those that come first.

    On a GPU the host waits once, for the number of particles that are kept.

    Args:
        pt: transverse momenta, shape [particles], jets one after another.
        ptr: where each jet begins and ends, int64, shape [jets + 1].
        max_particles: how many are kept of a jet, at most.
    """
    counts = ptr.diff()
    jet = torch.arange(counts.numel(), device=ptr.device).repeat_interleave(counts, output_size=pt.numel())
    falling = pt.argsort(descending=True, stable=True)
    order = falling[jet[falling].argsort(stable=True)]
    rank = torch.arange(pt.numel(), device=ptr.device) - ptr[jet]
    kept = counts.clamp(max=max_particles)
    return Hardest(order[rank < max_particles], torch.cat([kept.new_zeros(1), kept.cumsum(0)]))


@dataclass(frozen=True)
class JetView:
    """What a model sees of jets: a function from jets to jets, idempotent.

    Args:
        max_particles: how many particles of a jet are kept, at most: those of highest pT, in descending order of pT
            (:func:`hardest`). None keeps all, in their order.
        masses: ``stored`` takes particles as they are. ``zero`` takes them as massless, with the same pT, rapidity and
            azimuth, as weaver and most published numbers do: true masses tell a pion from a proton.

    Raises:
        ValueError: ``max_particles`` is below 1, or ``masses`` is neither of the two.
    """

    max_particles: int | None = None
    masses: Masses = "stored"

    def __post_init__(self) -> None:
        if self.max_particles is not None and self.max_particles < 1:
            raise ValueError(f"max_particles should be at least 1, found {self.max_particles}")
        if self.masses not in ("stored", "zero"):
            raise ValueError(f"masses should be 'stored' or 'zero', found {self.masses!r}")

    def __call__(self, jets: JetBatch) -> JetBatch:
        """What is seen of jets; they themselves stay as they are.

        Raises:
            TypeError: particles are to be left out of jets that are in slots already.
        """
        if self.max_particles is not None and isinstance(jets, PaddedJets):
            raise TypeError(
                "the hardest particles are chosen before jets are put into slots: apply the view to JetBatch"
            )
        if self.max_particles is not None:
            kept = hardest(jets.momenta.pt, jets.ptr, self.max_particles)
            jets = _with_particles(jets, *kept)
        if self.masses == "zero":
            jets = copy(jets)
            jets.momenta = jets.momenta._replace(mass=torch.zeros_like(jets.momenta.mass))
        return jets


WHOLE = JetView()
"""Jets as they are."""


def massive_fraction(jets: JetBatch) -> float:
    """The fraction of particles that have a mass; 0 without any particles."""
    mass = jets.momenta.mass
    return int(mass.count_nonzero()) / max(mass.numel(), 1)


def mass_mismatch(trained: float | None, jets: JetBatch) -> str | None:
    """A warning, if a model learned from massive particles and these are massless, or the other way round.

    That is so where one fraction of massive particles is below a tenth of the other and differs from it by 0.05 or
    more. Jets of fewer than :data:`FEWEST_PARTICLES` do not tell.

    Args:
        trained: the fraction of massive particles among those that the model saw in training; None if unknown.
        jets: jets as it sees them now.
    """
    if trained is None or jets.momenta.pt.numel() < FEWEST_PARTICLES:
        return None
    here = massive_fraction(jets)
    low, high = sorted((trained, here))
    if high - low < 0.05 or low >= 0.1 * high:
        return None
    return (
        f"{trained:.0%} of the particles in training had a mass, here {here:.0%} have one: masses tell species, and a "
        "model that learned from them does not carry over to jets without, nor the other way round. Give jets of the "
        "same kind, or train with data.masses=zero"
    )


def _with_particles(jets: JetBatch, index: Tensor, ptr: Tensor) -> JetBatch:
    """The same jets with some of their particles, in the order of ``index``."""
    impact = None if jets.impact is None else Impact(*(column.index_select(0, index) for column in jets.impact))
    pid = None if jets.pid is None else jets.pid.index_select(0, index)
    return replace(jets, momenta=jets.momenta.select(index), ptr=ptr, pid=pid, impact=impact)
