r"""Attention in rows: a row is what one particle, the target, gives to all sources, in one head of one layer.

The functions below take numbers of edges laid out in rows, shape [particles, maps, slots], with zeros where a row has
no edge. Weights may be signed, as those of differential attention are: then what counts is their fraction
:math:`|\alpha_{ij}| / \sum_k |\alpha_{ik}|`, which of a softmax is the weight itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iagraph.segment import segment_sum

BINARY = 0.8
"""A row whose largest weight is smaller is not binary (arXiv 2512.00210)."""


@dataclass(frozen=True)
class Rows:
    """The edges of a layer as rows. Make it with :meth:`of`.

    Attributes:
        source: the source of each edge, -1 where a row has no more edges; shape [particles, slots].
        target, slot: where each edge is, shape [edges].
    """

    source: Tensor
    target: Tensor
    slot: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> Rows:
        """Rows of edges that are sorted by target, as recordings have them.

        Args:
            edge_index: rows (source, target), shape [2, edges].
            num_nodes: number of particles.

        Raises:
            ValueError: the edges are not sorted by target.
        """
        source, target = edge_index
        if bool((target.diff() < 0).any()):
            raise ValueError("edges should be sorted by target")
        count = torch.bincount(target, minlength=num_nodes)
        slot = torch.arange(target.numel(), device=target.device) - (count.cumsum(0) - count)[target]
        table = source.new_full((num_nodes, max(int(count.max()), 1) if num_nodes else 1), -1)
        table[target, slot] = source
        return cls(table, target, slot)

    @property
    def real(self) -> Tensor:
        """Where there is an edge, shape [particles, slots]."""
        return self.source >= 0

    @property
    def others(self) -> Tensor:
        """Where there is an edge between two different particles, shape [particles, slots]."""
        own = torch.arange(self.source.size(0), device=self.source.device).unsqueeze(1)
        return self.real & (self.source != own)

    def place(self, values: Tensor) -> Tensor:
        """Values of edges, shape [edges, maps], in rows, shape [particles, maps, slots]; zeros elsewhere."""
        rows = values.new_zeros(*self.source.shape, values.size(1))
        rows[self.target, self.slot] = values
        return rows.transpose(1, 2).contiguous()


def shares(weights: Tensor) -> Tensor:
    r""":math:`|\alpha_{ij}| / \sum_k |\alpha_{ik}|`, shape [..., slots]; a row of zeros keeps them."""
    size = weights.abs()
    total = size.sum(-1, keepdim=True)
    return size / torch.where(total > 0, total, torch.ones_like(total))


def is_non_binary(share: Tensor, threshold: float = BINARY) -> Tensor:
    """Whether the largest fraction of a row is below a threshold; a row without weights is not counted as one.

    Args:
        share: from :func:`shares`, shape [..., slots].
        threshold: below which no source dominates.

    Returns:
        Shape [...].
    """
    largest = share.amax(-1)
    return (largest > 0) & (largest < threshold)


def entropy(share: Tensor) -> Tensor:
    r"""Entropy :math:`H_i = -\sum_j p_{ij} \ln p_{ij}` of the fractions of each row, shape [...].

    :math:`e^H` is the effective number of neighbours: 1 if all weight is on one source, n if it is even over n.
    """
    return -torch.special.xlogy(share, share).sum(-1)


def spread(scores: Tensor, real: Tensor) -> Tensor:
    """Standard deviation of scores within their row (of all of its edges, not an estimate from some).

    A softmax ignores what a row has in common: the spread is what scores can decide by.

    Args:
        scores: zero where there is no edge, shape [particles, maps, slots].
        real: where there is an edge, shape [particles, slots].

    Returns:
        Shape [particles, maps]; zero of a row without edges.
    """
    real = real.unsqueeze(1)
    number = real.sum(-1).clamp(min=1)
    away = (scores - (scores.sum(-1) / number).unsqueeze(-1)) * real
    return (away.square().sum(-1) / number).sqrt()


def largest_source(scores: Tensor, real: Tensor) -> Tensor:
    """The slot of the largest score of each row, the first one of equals; shape [particles, maps]."""
    return scores.masked_fill(~real.unsqueeze(1), -torch.inf).argmax(-1)


def per_jet(values: Tensor, jet: Tensor, jets: int) -> Tensor:
    """Sums over all numbers of each jet in float64, shape [jets].

    Args:
        values: shape [particles or edges, ...].
        jet: the jet of each, shape [particles or edges].
        jets: number of jets.
    """
    return segment_sum(values.double().flatten(1).sum(1) if values.ndim > 1 else values.double(), jet, jets)
