r"""Attention maps of layers and heads, averaged over jets with particles in order of decreasing pT.

Row i is the target and column j the source, as in :math:`\alpha_{ij}`; rank 0 has the highest pT. Differential
attention is signed: its rows sum to :math:`1 - \beta` if no edge is dropped, and each sign is summed separately.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iagraph.estimates import ratio
from iagraph.interpret.particles import ranks
from iagraph.interpret.recording import LayerAttention
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate

RANKS = 20
"""Particles per jet in the maps, hardest first."""

PARTS = ("positive", "negative", "own", "hardest")
"""Sums over a target's edges; see :class:`MeanMaps`."""


def jet_maps(layer: LayerAttention, jets: JetBatch, jet: int) -> Tensor:
    """Attention of one jet, with particles in order of decreasing pT; zero for dropped edges.

    Args:
        layer: recorded attention of a layer.
        jets: the jets.
        jet: index of the jet.

    Returns:
        Shape [heads, particles, particles], target before source.
    """
    source, target = layer.edge_index
    mine = jets.batch[target] == jet
    rank, size = ranks(jets.momenta.pt, jets), int(jets.ptr[jet + 1] - jets.ptr[jet])
    maps = layer.alpha.new_zeros(layer.alpha.size(1), size, size)
    maps[:, rank[target[mine]], rank[source[mine]]] = layer.alpha[mine].t()
    return maps


class MeanMaps:
    """Attention maps of a layer, averaged over jets, and a summary of where attention goes.

    Entry (i, j) is the mean over the jets that have both ranks; dropped edges count as zero. The parts are sums
    over a target's edges, averaged over all targets (particles): positive weights, negative weights with the sign
    flipped, the absolute weight of the self-edge, and the absolute weight of the edge from the jet's hardest particle.
    The first two add up to the total absolute attention.

    Args:
        heads: number of heads.
        ranks: number of particles shown.
    """

    def __init__(self, heads: int, ranks: int = RANKS) -> None:
        self.ranks = ranks
        self.jets_of_size = torch.zeros(ranks + 1, dtype=torch.int64)
        self._sum = torch.zeros(ranks * ranks, heads, dtype=torch.float64)
        self._squares = torch.zeros_like(self._sum)
        self._parts: list[Tensor] = []
        self._sizes: list[Tensor] = []

    def add(self, layer: LayerAttention, jets: JetBatch) -> None:
        """Add a batch of jets, none of which may have been added before."""
        source, target = layer.edge_index
        rank, alpha = ranks(jets.momenta.pt, jets), layer.alpha.detach().double()
        to, of = rank[target], rank[source]
        shown = (to < self.ranks) & (of < self.ranks)
        place, weights = (to * self.ranks + of)[shown].cpu(), alpha[shown].cpu()
        self._sum.index_add_(0, place, weights)
        self._squares.index_add_(0, place, weights.square())
        sizes = jets.ptr.diff().cpu()
        self.jets_of_size += torch.bincount(sizes.clamp(max=self.ranks), minlength=self.ranks + 1)
        size = alpha.abs()
        own, hardest = ((source == target).unsqueeze(1) * size, (of == 0).unsqueeze(1) * size)
        parts = torch.stack([alpha.clamp(min=0), (-alpha).clamp(min=0), own, hardest], dim=2)
        of_jet = parts.new_zeros(len(jets), *parts.shape[1:]).index_add_(0, jets.batch[target], parts)
        self._parts.append(of_jet.cpu())
        self._sizes.append(sizes)

    @property
    def jets(self) -> Tensor:
        """Number of jets that have both ranks, shape [ranks, ranks]."""
        at_least = self.jets_of_size.flip(0).cumsum(0).flip(0)[1:]  # number of jets that reach each rank
        return torch.minimum(at_least.unsqueeze(0), at_least.unsqueeze(1))

    @property
    def mean(self) -> Tensor:
        """Mean maps, shape [heads, ranks, ranks], target before source; NaN where no jet has both ranks."""
        return self._sum.t().unflatten(1, (self.ranks, -1)) / self.jets

    @property
    def error(self) -> Tensor:
        """Standard errors of the mean maps, shape [heads, ranks, ranks]; NaN for fewer than two jets."""
        squares = self._squares.t().unflatten(1, (self.ranks, -1))
        spread = (squares / self.jets - self.mean.square()).clamp(min=0)
        return (spread / (self.jets - 1.0).where(self.jets > 1, math.nan)).sqrt()

    def part(self, name: str, head: int | None = None) -> Estimate:
        """Mean of a part over all targets; its error treats jets as independent.

        Args:
            name: one of :data:`PARTS`.
            head: index of the head; None for the mean over heads.
        """
        values = torch.cat(self._parts)[..., PARTS.index(name)]
        return ratio(values.mean(1) if head is None else values[:, head], torch.cat(self._sizes).double())

    def negative_fraction(self, head: int | None = None) -> Estimate:
        """Negative weights as a fraction of the sum of absolute weights, for one head or all heads."""
        values = torch.cat(self._parts)[..., :2]
        positive, negative = (values.sum(1) if head is None else values[:, head]).unbind(1)
        return ratio(negative, positive + negative)
