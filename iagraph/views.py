"""How models view jets: how many particles they see, and whether these have masses.

A view is part of a trained model, like its features. It is stored with the weights and applied with the model, so the
same jets give the same results in training, evaluation, a loaded model and an exported file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from iagraph.jets import JetBatch, PaddedJets, falling
from iagraph.segment import ptr_of

__all__ = ["JetView"]

Masses = Literal["stored", "zero"]

FEWEST_PARTICLES = 100
"""Smallest total number of particles for which masses are checked: a few may all be massless photons."""


def hardest(pt: Tensor, ptr: Tensor, max_particles: int) -> tuple[Tensor, Tensor]:
    """The particles of highest pT of each jet; among equal ones, the first.

    On a GPU this synchronises once, for the number of kept particles.

    Args:
        pt: transverse momenta, shape [particles], jet by jet.
        ptr: boundaries of jets, int64, shape [jets + 1].
        max_particles: largest number of particles to keep per jet.

    Returns:
        Their indices, jet by jet, in descending order of pT; boundaries of jets among them, int64, shape [jets + 1].
    """
    counts = ptr.diff()
    jet = torch.arange(counts.numel(), device=ptr.device).repeat_interleave(counts, output_size=pt.numel())
    order = falling(pt, jet)
    rank = torch.arange(pt.numel(), device=ptr.device) - ptr[jet]
    kept = counts.clamp(max=max_particles)
    return order[rank < max_particles], ptr_of(kept)


@dataclass(frozen=True)
class JetView:
    """A model's view of jets: an idempotent function from jets to jets.

    Args:
        max_particles: largest number of particles to keep per jet: those of highest pT, in descending order
            (:func:`hardest`). None keeps all, in their order.
        masses: ``stored`` keeps masses. ``zero`` treats particles as massless, with the same pT, rapidity and azimuth,
            as weaver and most published results do: true masses distinguish a pion from a proton.

    Raises:
        ValueError: ``max_particles`` is below 1, or ``masses`` is invalid.
    """

    max_particles: int | None = None
    masses: Masses = "stored"

    def __post_init__(self) -> None:
        if self.max_particles is not None and self.max_particles < 1:
            raise ValueError(f"max_particles should be at least 1, found {self.max_particles}")
        if self.masses not in ("stored", "zero"):
            raise ValueError(f"masses should be 'stored' or 'zero', found {self.masses!r}")

    def __call__(self, jets: JetBatch) -> JetBatch:
        """The jets as the model sees them; the input is unchanged.

        Raises:
            TypeError: ``max_particles`` is set and the jets are already padded.
        """
        if self.max_particles is not None and isinstance(jets, PaddedJets):
            raise TypeError("the hardest particles must be selected before padding: apply the view to a JetBatch")
        if self.max_particles is not None:
            jets = jets.with_particles(*hardest(jets.momenta.pt, jets.ptr, self.max_particles))
        if self.masses == "zero":
            jets = jets.with_momenta(jets.momenta._replace(mass=torch.zeros_like(jets.momenta.mass)))
        return jets


WHOLE = JetView()
"""View that changes nothing."""


def massive_fraction(jets: JetBatch) -> float:
    """Fraction of particles with a mass; 0 without particles."""
    mass = jets.momenta.mass
    return int(mass.count_nonzero()) / max(mass.numel(), 1)


def mass_mismatch(trained: float | None, jets: JetBatch) -> str | None:
    """A warning if a model was trained on massive particles and ``jets`` has massless ones, or vice versa; else None.

    The criterion: one fraction of massive particles is below a tenth of the other, and they differ by at least 0.05.
    Fewer than :data:`FEWEST_PARTICLES` particles are not checked.

    Args:
        trained: fraction of massive particles seen in training; None if unknown.
        jets: jets as the model sees them now.
    """
    if trained is None or jets.momenta.pt.numel() < FEWEST_PARTICLES:
        return None
    here = massive_fraction(jets)
    low, high = sorted((trained, here))
    if high - low < 0.05 or low >= 0.1 * high:
        return None
    return (
        f"{trained:.0%} of the particles in training had a mass, here {here:.0%} have one: masses reveal species, and "
        "a model trained with them does not transfer to jets without, nor vice versa. Use jets of the "
        "same kind, or train with data.masses=zero"
    )
