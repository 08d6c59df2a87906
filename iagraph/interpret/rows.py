r"""Rows of attention: the weights that one target gives to all sources, in one head of one layer.

The functions below take values of edges laid out in rows, shape [particles, maps, slots], zero where a row has no edge.
Weights may be signed, as in differential attention; they enter as fractions
:math:`|\alpha_{ij}| / \sum_k |\alpha_{ik}|`, which for a softmax are the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from iagraph.segment import segment_sum

BINARY = 0.8
"""A row is binary if its largest fraction is at least this (arXiv 2512.00210)."""


@dataclass(frozen=True)
class Rows:
    """The edges of a layer as rows, made by :meth:`of`.

    Attributes:
        source: the source of each edge, -1 in empty slots; shape [particles, slots].
        target, slot: row and slot of each edge, shape [edges].
    """

    source: Tensor
    target: Tensor
    slot: Tensor

    @classmethod
    def of(cls, edge_index: Tensor, num_nodes: int) -> Rows:
        """Rows of edges sorted by target, as in recordings.

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
        """Mask of slots with an edge, shape [particles, slots]."""
        return self.source >= 0

    @property
    def others(self) -> Tensor:
        """Mask of slots with an edge between different particles, shape [particles, slots]."""
        own = torch.arange(self.source.size(0), device=self.source.device).unsqueeze(1)
        return self.real & (self.source != own)

    def place(self, values: Tensor) -> Tensor:
        """Values of edges, shape [edges, maps], in rows, shape [particles, maps, slots]; zeros elsewhere."""
        rows = values.new_zeros(*self.source.shape, values.size(1))
        rows[self.target, self.slot] = values
        return rows.transpose(1, 2).contiguous()


def fractions(weights: Tensor) -> Tensor:
    r"""Fractions :math:`|\alpha_{ij}| / \sum_k |\alpha_{ik}|`, shape [..., slots]; zeros in a row of zeros."""
    size = weights.abs()
    total = size.sum(-1, keepdim=True)
    return size / torch.where(total > 0, total, torch.ones_like(total))


def is_non_binary(fraction: Tensor, threshold: float = BINARY) -> Tensor:
    """Whether the largest fraction of a row is below a threshold; false for a row without weights.

    Args:
        fraction: from :func:`fractions`, shape [..., slots].
        threshold: smallest fraction at which one source counts as dominant.

    Returns:
        Shape [...].
    """
    largest = fraction.amax(-1)
    return (largest > 0) & (largest < threshold)


def entropy(fraction: Tensor) -> Tensor:
    r"""Entropy :math:`H_i = -\sum_j p_{ij} \ln p_{ij}` of the fractions of each row, shape [...].

    :math:`e^H` is the effective number of neighbours: 1 if all weight is on one source, n if it is uniform over n.
    """
    return -torch.special.xlogy(fraction, fraction).sum(-1)


def spread(scores: Tensor, real: Tensor) -> Tensor:
    """Population standard deviation of scores within each row.

    A softmax ignores constants added to a row, so only the spread of scores within a row matters.

    Args:
        scores: zero where there is no edge, shape [particles, maps, slots].
        real: mask of slots with an edge, shape [particles, slots].

    Returns:
        Shape [particles, maps]; zero for a row without edges.
    """
    real = real.unsqueeze(1)
    number = real.sum(-1).clamp(min=1)
    away = (scores - (scores.sum(-1) / number).unsqueeze(-1)) * real
    return (away.square().sum(-1) / number).sqrt()


def largest_source(scores: Tensor, real: Tensor) -> Tensor:
    """The slot of the largest score in each row, the first if several are equal; shape [particles, maps]."""
    return scores.masked_fill(~real.unsqueeze(1), -torch.inf).argmax(-1)


def per_jet(values: Tensor, jet: Tensor, jets: int) -> Tensor:
    """Sums over all values of each jet in float64, shape [jets].

    Args:
        values: shape [particles or edges, ...].
        jet: the jet of each particle or edge, shape [particles or edges].
        jets: number of jets.
    """
    return segment_sum(values.double().flatten(1).sum(1) if values.ndim > 1 else values.double(), jet, jets)
