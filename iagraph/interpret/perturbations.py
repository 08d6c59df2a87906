"""Jets as a measurement might have had them: momenta and directions smeared, particles lost. Pure functions.

Models make all features from the momenta of the particles, those of the jet from their sum: what is changed here
changes all of them. Random numbers come from a generator on the CPU, so that a seed means the same on every device.
A jet that would lose all its particles keeps the one of highest pT, for a jet without any is not measured at all; one
that had none before stays empty.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from iagraph.interpret.particles import keep, ranks
from iagraph.jets import JetBatch
from iagraph.kinematics import wrap_phi
from iagraph.segment import segment_sum


def smear_pt(jets: JetBatch, fraction: float, generator: Generator) -> JetBatch:
    r"""Transverse momenta times :math:`|1 + f z|`, z standard normal; rapidity, azimuth and mass stay.

    For fractions of up to 0.2 the bars do next to nothing: they keep :math:`p_T` positive.

    Args:
        jets: the jets.
        fraction: relative resolution f.
        generator: where random numbers come from, on the CPU.
    """
    pt = jets.momenta.pt
    return replace(jets, momenta=jets.momenta._replace(pt=pt * (1 + fraction * _normal(pt, generator)).abs()))


def smear_direction(jets: JetBatch, angle: float, generator: Generator) -> JetBatch:
    """Rapidities and azimuths plus normal numbers, independent of one another; pT and mass stay.

    Args:
        jets: the jets.
        angle: their standard deviation, in rapidity and in rad.
        generator: where random numbers come from, on the CPU.
    """
    momenta = jets.momenta
    rapidity = momenta.rapidity + angle * _normal(momenta.rapidity, generator)
    phi = wrap_phi(momenta.phi + angle * _normal(momenta.phi, generator))
    return replace(jets, momenta=momenta._replace(rapidity=rapidity, phi=phi))


def drop_particles(jets: JetBatch, probability: float, generator: Generator) -> JetBatch:
    """Each particle is lost with this probability, whatever becomes of the others.

    Args:
        jets: the jets.
        probability: in [0, 1].
        generator: where random numbers come from, on the CPU.
    """
    pt = jets.momenta.pt
    return _keep(jets, (torch.rand(pt.numel(), generator=generator) >= probability).to(pt.device))


def drop_soft(jets: JetBatch, minimum: float) -> JetBatch:
    """Particles with pT below a minimum in GeV are lost."""
    return _keep(jets, jets.momenta.pt >= minimum)


def _keep(jets: JetBatch, kept: Tensor) -> JetBatch:
    """The jets with some of their particles, and with the first of highest pT where none would be left."""
    left = segment_sum(kept.long(), jets.batch, len(jets), jets.ptr)
    return keep(jets, kept | ((ranks(jets.momenta.pt, jets) == 0) & (left == 0)[jets.batch]))


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.numel(), generator=generator, dtype=torch.float64).to(like)
