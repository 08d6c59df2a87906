"""Imperfectly measured jets: momenta and directions smeared, particles lost. Inputs are not modified.

Models derive all kinematic features from the momenta of the particles, and jet momenta from their sum, so changes here
affect all features. Random numbers come from a generator on the CPU: a seed gives the same numbers on every device. A
jet that would lose all its particles keeps the hardest, since a jet needs at least one; empty jets stay empty.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from iagraph.interpret.particles import keep, ranks
from iagraph.jets import JetBatch
from iagraph.kinematics import wrap_phi
from iagraph.segment import segment_sum


def smear_pt(jets: JetBatch, fraction: float, generator: Generator) -> JetBatch:
    r"""Multiply transverse momenta by :math:`|1 + f z|`, z standard normal; rapidity, azimuth and mass are kept.

    The absolute value keeps :math:`p_T` positive; it hardly matters for f up to 0.2.

    Args:
        jets: the jets.
        fraction: relative resolution f.
        generator: random numbers, on the CPU.
    """
    pt = jets.momenta.pt
    return jets.with_momenta(jets.momenta._replace(pt=pt * (1 + fraction * _normal(pt, generator)).abs()))


def smear_direction(jets: JetBatch, angle: float, generator: Generator) -> JetBatch:
    """Add independent normal numbers to rapidities and azimuths; pT and mass are kept.

    Args:
        jets: the jets.
        angle: standard deviation, in rapidity and in rad.
        generator: random numbers, on the CPU.
    """
    momenta = jets.momenta
    rapidity = momenta.rapidity + angle * _normal(momenta.rapidity, generator)
    phi = wrap_phi(momenta.phi + angle * _normal(momenta.phi, generator))
    return jets.with_momenta(momenta._replace(rapidity=rapidity, phi=phi))


def drop_particles(jets: JetBatch, probability: float, generator: Generator) -> JetBatch:
    """Drop each particle independently with a given probability; a jet that would lose all keeps its hardest.

    Args:
        jets: the jets.
        probability: probability to drop a particle, in [0, 1].
        generator: random numbers, on the CPU.
    """
    pt = jets.momenta.pt
    return _keep(jets, (torch.rand(pt.numel(), generator=generator) >= probability).to(pt.device))


def drop_soft(jets: JetBatch, minimum: float) -> JetBatch:
    """Drop particles with pT below a minimum in GeV; a jet that would lose all keeps its hardest."""
    return _keep(jets, jets.momenta.pt >= minimum)


def _keep(jets: JetBatch, kept: Tensor) -> JetBatch:
    """The jets with the kept particles, or with the hardest one if none is kept."""
    number = segment_sum(kept.long(), jets.batch, len(jets), jets.ptr)
    return keep(jets, kept | ((ranks(jets.momenta.pt, jets) == 0) & (number == 0)[jets.batch]))


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.numel(), generator=generator, dtype=torch.float64).to(like)
