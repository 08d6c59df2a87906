r"""Which particles attention links: near or far ones, ones in different subjets, leptons.

Self-edges are excluded. In each jet and layer, an edge has the fraction of the attention

.. math:: s_{ij} = \sum_h |\alpha_{hij}| \Big/ \sum_{k \neq l} \sum_h |\alpha_{hkl}|, \qquad i \neq j,

and results are means over jets of :math:`\sum s_{ij} q_{ij}` for a quantity q of edges, each jet counting equally.
Uniform attention would give the mean of q over the edges of a jet, reported for comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iagraph.interpret.edges import pair_feature
from iagraph.interpret.recording import LayerAttention
from iagraph.interpret.sums import JetSums, histogram, of_layer, stacked
from iagraph.jets import JetBatch, falling
from iagraph.segment import segment_sum

PAIR_EDGES = {
    "log_delta_r": torch.linspace(-7, 1, 49, dtype=torch.float64),
    "log_kt": torch.linspace(-8, 5, 53, dtype=torch.float64),
    "log_m2": torch.linspace(-12, 10, 56, dtype=torch.float64),
}
"""Bin edges of pair features: logarithms of Delta R [rad], kT [GeV] and m^2 [GeV^2]."""

RADII = (0.1, 0.2, 0.4)
LEPTONS = (11, 13)
FRACTION_BINS = torch.linspace(0, 1, 41, dtype=torch.float64)
SEED = 1
THREE_PRONGS = ("top", "tbqq")


def jet_fractions(weights: Tensor, jet: Tensor, jets: int) -> Tensor:
    """Absolute weights of edges as fractions of their sum over the jet, in float64.

    Args:
        weights: signed or not, shape [edges] or [edges, heads]; each head has its own sum.
        jet: the jet of each edge, shape [edges].
        jets: number of jets.

    Returns:
        Same shape as ``weights``; zeros in jets whose weights are all zero.
    """
    size = weights.double().abs()
    total = segment_sum(size, jet, jets)
    return size / torch.where(total > 0, total, torch.ones_like(total))[jet]


def distance_sums(layer: LayerAttention, jets: JetBatch) -> JetSums:
    """Attention by Delta R, kT and m^2 between different particles, compared with uniform attention.

    Returns:
        For each jet ``delta_r``, the mean distance weighted by attention [rad]; ``within 0.1`` etc., the fraction of
        attention on pairs within that distance; ``pairs delta_r`` etc., likewise with equal weights for all pairs; and
        ``weighed``: 1 if the jet has attention between different particles. Histograms, to which each jet adds 1:
        ``log_delta_r``, ``log_kt`` and ``log_m2`` weighted by attention, and ``pairs log_delta_r`` etc. with equal
        weights.
    """
    (source, target), jet, weights = _others(layer, jets)
    count = len(jets)
    fraction, even = jet_fractions(weights.sum(1), jet, count), jet_fractions(torch.ones_like(jet), jet, count)
    features = {name: pair_feature(jets, name, source, target).double() for name in PAIR_EDGES}
    delta_r = features["log_delta_r"].exp()
    sums, counts = {"weighed": segment_sum(fraction, jet, count).round()}, dict[str, Tensor]()
    for name, part in (("", fraction), ("pairs ", even)):
        sums[f"{name}delta_r"] = segment_sum(part * delta_r, jet, count)
        sums |= {f"{name}within {radius:g}": segment_sum(part * (delta_r < radius), jet, count) for radius in RADII}
        counts |= {f"{name}{key}": histogram(features[key], PAIR_EDGES[key], part) for key in PAIR_EDGES}
    return of_layer(sums, counts)


def between_subjets(layer: LayerAttention, jets: JetBatch, subjet: Tensor, prefix: str = "") -> JetSums:
    r"""Fraction of attention that joins different subjets, among edges between different particles with a subjet.

    .. math:: \sum_{i \neq j,\; s(i) \neq s(j)} |\alpha_{ij}| \Big/ \sum_{i \neq j} |\alpha_{ij}|

    Args:
        layer: recorded attention of a layer.
        jets: the jets.
        subjet: index of the subjet of each particle, -1 for none, shape [particles].
        prefix: prefix for the names of all results.

    Returns:
        For each jet ``between``, all heads together; ``pairs between``, the fraction of pairs that join different
        subjets; and ``split``: 1 if there is attention between particles with a subjet, else all three are 0.
        Histogram ``between``: one entry per head of each jet with ``split``.
    """
    (source, target), jet, weights = _others(layer, jets)
    subjet, count = subjet.to(source.device), len(jets)
    known = (subjet[source] >= 0) & (subjet[target] >= 0)
    source, target, jet, weights = source[known], target[known], jet[known], weights[known]
    crosses = (subjet[source] != subjet[target]).unsqueeze(1)
    fraction = jet_fractions(weights.sum(1, keepdim=True), jet, count)
    even = jet_fractions(torch.ones_like(jet).unsqueeze(1), jet, count)
    by_head = segment_sum(jet_fractions(weights, jet, count) * crosses, jet, count)
    split = segment_sum(fraction, jet, count).round().squeeze(1)
    sums = {
        "between": segment_sum(fraction * crosses, jet, count).squeeze(1),
        "pairs between": segment_sum(even * crosses, jet, count).squeeze(1) * split,
        "split": split,
    }
    counts = {"between": histogram(by_head[split > 0], FRACTION_BINS)}
    return of_layer(*({prefix + name: values for name, values in each.items()} for each in (sums, counts)))


def lepton_attention(layer: LayerAttention, jets: JetBatch, prefix: str = "") -> JetSums:
    """Fraction of attention that electrons and muons receive from other particles, and their fractions of pT and pairs.

    A lepton of a decay is among the hardest particles of its jet, so it is compared with the particle of another kind
    whose pT, as a logarithm, is nearest to its own.

    Args:
        layer: recorded attention of a layer.
        jets: the jets, with species.
        prefix: prefix for the names of all results.

    Returns:
        For each jet with leptons ``lepton attention``, the fraction that they receive together; ``lepton pt``, their
        fraction of the scalar sum of pT; ``nearest attention`` and ``nearest pt``, likewise for the particles nearest
        to them in pT; ``lepton pairs``, what leptons would receive from uniform attention; and ``with leptons``: 1. All
        are zero for jets without leptons, other particles or attention between different particles.

    Raises:
        ValueError: species are unknown.
    """
    if jets.pid is None:
        raise ValueError("leptons are unknown: these jets have no 'pid'")
    (source, _), jet, weights = _others(layer, jets)
    count = len(jets)
    lepton = torch.isin(jets.pid.abs(), jets.pid.new_tensor(LEPTONS)).double()
    fraction = jet_fractions(weights.sum(1), jet, count)
    even = jet_fractions(torch.ones_like(jet), jet, count)
    leptons, others = (segment_sum(each, jets.batch, count) for each in (lepton, 1 - lepton))
    counts = (segment_sum(fraction, jet, count) > 0) & (leptons > 0) & (others > 0)
    pt = jet_fractions(jets.momenta.pt, jets.batch, count)
    nearest = _nearest_in_pt(lepton, jets)
    sums = {
        "lepton attention": segment_sum(fraction * lepton[source], jet, count),
        "lepton pt": segment_sum(pt * lepton, jets.batch, count),
        "nearest attention": segment_sum(fraction * nearest[source], jet, count),
        "nearest pt": segment_sum(pt * nearest, jets.batch, count),
        "lepton pairs": segment_sum(even * lepton[source], jet, count),
        "with leptons": torch.ones_like(leptons),
    }
    return of_layer({prefix + name: values * counts for name, values in sums.items()}, {})


def _nearest_in_pt(lepton: Tensor, jets: JetBatch) -> Tensor:
    """How many leptons of its jet have each particle as the other particle nearest in log pT, shape [particles]."""
    rows, log_pt = lepton.nonzero().squeeze(1), jets.momenta.pt.double().log()
    if not len(rows):
        return lepton
    distance = (log_pt[rows, None] - log_pt).abs()  # [leptons, particles]
    distance[(jets.batch[rows, None] != jets.batch) | (lepton > 0)] = torch.inf
    nearest = distance.argmin(dim=1)
    found = distance[torch.arange(len(rows), device=rows.device), nearest].isfinite()
    return torch.bincount(nearest[found], minlength=len(lepton)).double()


def geometry(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> JetSums:
    """All measurements of this module for all layers.

    Args:
        layers: recorded attention of the layers.
        jets: the jets.
        subjet: as in :func:`between_subjets`, or None if unknown. If known, results whose names start with ``shuffled``
            are for the same subjets assigned to random particles of the jet.
    """
    found = stacked(distance_sums(layer, jets) for layer in layers)
    if subjet is not None:
        random = shuffled(subjet, jets)
        found = found.merged(stacked(between_subjets(layer, jets, subjet) for layer in layers))
        found = found.merged(stacked(between_subjets(layer, jets, random, "shuffled ") for layer in layers))
    if jets.pid is not None:
        found = found.merged(stacked(lepton_attention(layer, jets) for layer in layers))
    return found


def shuffled(subjet: Tensor, jets: JetBatch) -> Tensor:
    """Subjets permuted among the particles of each jet, reproducibly."""
    batch = jets.batch.to(subjet.device)
    values = torch.rand(subjet.numel(), generator=torch.Generator().manual_seed(SEED)).to(subjet.device)
    return subjet[falling(-values, batch)]


def number_of_subjets(name: str) -> int:
    """Number of subjets for jets of a class: three for tops that decay to quarks, otherwise two.

    H to four quarks has more than two prongs, and QCD jets have one; two subjets allow a comparison.

    Args:
        name: name of the class, such as ``top`` or JetClass's ``Tbqq``.
    """
    return 3 if name.lower() in THREE_PRONGS else 2


def _others(layer: LayerAttention, jets: JetBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Edges between different particles, their jets, and their absolute weights (which cannot cancel in sums)."""
    others = (layer.edge_index[0] != layer.edge_index[1]).nonzero().squeeze(1)
    edges = layer.edge_index[:, others]
    return edges, jets.batch[edges[1]], layer.alpha[others].abs()
