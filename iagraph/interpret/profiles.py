r"""Relevance within jets by transverse momentum, distance to the axis, species and subjet.

Jets differ in the size of their evidence, so relevance is normalised within each jet of n particles,

.. math:: r_i = \frac{n R_i}{\sum_j |R_j|},

which makes the mean of :math:`|r_i|` 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iagraph.interpret.particles import SPECIES, ranks, species
from iagraph.jets import JetBatch
from iagraph.kinematics import wrap_phi
from iagraph.observables import subjets
from iagraph.segment import segment_sum

HARDEST = (1, 2, 3, 5, 10, 20)


def relative_relevance(relevance: Tensor, jets: JetBatch) -> Tensor:
    """Relative relevance :math:`r_i`, zero in jets whose relevance is all zero; shape [particles].

    Args:
        relevance: shape [particles].
        jets: the jets.
    """
    total = segment_sum(relevance.abs(), jets.batch, len(jets), jets.ptr)
    scale = torch.where(total > 0, jets.ptr.diff() / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    return relevance * scale[jets.batch]


def axis_distance(jets: JetBatch) -> Tensor:
    r"""Distance :math:`\Delta R = \sqrt{\Delta y^2 + \Delta\phi^2}` to the axis of the jet, shape [particles]."""
    axis = jets.sums().select(jets.batch)
    return torch.hypot(jets.momenta.rapidity - axis.rapidity, wrap_phi(jets.momenta.phi - axis.phi))


def sums_in_bins(values: Tensor, coordinate: Tensor, edges: Sequence[float], jets: JetBatch) -> Tensor:
    """Sums of values over the particles of each jet in each bin, shape [jets, bins].

    Args:
        values: shape [particles].
        coordinate: shape [particles]; the outer bins include values beyond their edges.
        edges: bin edges, ascending; a bin includes its lower edge.
        jets: the jets.
    """
    bins = len(edges) - 1
    inner = torch.tensor(edges[1:-1], dtype=coordinate.dtype, device=coordinate.device)
    place = torch.bucketize(coordinate, inner, right=True)
    return _sums(values, place, bins, jets)


def fraction_of_hardest(values: Tensor, jets: JetBatch, numbers: Sequence[int] = HARDEST) -> Tensor:
    """Fraction of each jet's sum of values that lies in its k particles of highest pT, shape [jets, numbers].

    Args:
        values: non-negative, shape [particles].
        jets: the jets; the result is NaN for those whose sum is zero.
        numbers: the values of k.
    """
    place = ranks(jets.momenta.pt, jets)
    total = segment_sum(values, jets.batch, len(jets))
    parts = [segment_sum(values * (place < k), jets.batch, len(jets)) for k in numbers]
    return torch.stack(parts, dim=1) / total.unsqueeze(1)


def fraction_by_species(values: Tensor, jets: JetBatch) -> Tensor | None:
    """Sum of values of each species, divided by the sum of absolute values of the jet; NaN where that is zero.

    Args:
        values: shape [particles].
        jets: the jets.

    Returns:
        Shape [jets, species], ordered as in :data:`~iagraph.interpret.particles.SPECIES`; None if species are unknown.
    """
    kind = species(jets)
    if kind is None:
        return None
    total = segment_sum(values.abs(), jets.batch, len(jets))
    return _sums(values, kind, len(SPECIES), jets) / total.unsqueeze(1)


def fraction_by_subjet(values: Tensor, jets: JetBatch) -> Tensor | None:
    """Fraction of each jet's sum of values in the kT subjet of higher pT, in the other, and in no subjet.

    Args:
        values: non-negative, shape [particles].
        jets: the jets.

    Returns:
        Shape [jets, 3], NaN for jets without two subjets (:func:`iagraph.observables.subjets`); None without
        FastJet. The pT of a subjet is the scalar sum over its particles.
    """
    found = subjets(jets)
    if found is None:
        return None
    number = found.to(values.device)
    place = torch.where(number < 0, 2, number)
    pt = _sums(jets.momenta.pt, place, 3, jets)
    of = _sums(values, place, 3, jets)
    swapped = pt[:, 1] > pt[:, 0]
    of = torch.where(swapped.unsqueeze(1), of[:, [1, 0, 2]], of)
    total = of.sum(1, keepdim=True)
    return torch.where((pt[:, :2] > 0).all(1, keepdim=True), of / total, torch.nan)


def _sums(values: Tensor, place: Tensor, places: int, jets: JetBatch) -> Tensor:
    return segment_sum(values, jets.batch * places + place, len(jets) * places).view(len(jets), places)
