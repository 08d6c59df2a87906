r"""Rules that say which edges of a layer survive, from the weights that attention gives them.

A rule looks at the absolute weights :math:`|\alpha_{ij}|` of the edges between different nodes. An edge of a node with
itself always survives and counts for nothing: a node that has one is never alone. A node without such an edge may lose
all edges; its sum is then zero, as that of any node at which no edge arrives. The graph itself is never changed: a
layer with a rule gives back which edges are left.

Two things can be done with what a rule drops, and they differ (arXiv 2505.03258 does neither, it keeps all edges):

- after the softmax (the default): the weights of survivors stay as they are, those of the others become zero;
- before the softmax (``renormalize``): each softmax map is taken over the survivors alone, so that its weights sum to
  one again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from iagraph.segment import segment_sum

MOST_EDGES = 2**62
"""More than any node has."""


class Candidates(NamedTuple):
    """The edges that a rule chooses among.

    Attributes:
        source, target: the nodes of each edge, shape [edges].
        graph: the graph of each edge, as that of a jet in a batch, shape [edges].
        num_targets: number of nodes at which edges may arrive.
    """

    source: Tensor
    target: Tensor
    graph: Tensor
    num_targets: int


@dataclass(frozen=True)
class PruningRule(ABC):
    r"""Which edges survive.

    Args:
        per_head: every head chooses edges of its own; an edge is gone when no head wants it. Otherwise the mean of
            :math:`|\alpha|` over the heads decides for all of them.
        renormalize: drop before the softmax instead of after it, see above.
    """

    per_head: bool = field(default=False, kw_only=True)
    renormalize: bool = field(default=False, kw_only=True)

    def __call__(self, alpha: Tensor, edges: Candidates) -> Tensor:
        """True where an edge survives.

        Args:
            alpha: weights of the edges, signed, shape [edges, heads].
            edges: the edges, in any order.

        Returns:
            Shape [edges, heads], or [edges, 1] if all heads have the same.
        """
        strength = alpha.detach().abs()
        strength = strength if strength.dtype == torch.float64 else strength.float()
        if not self.per_head:
            strength = strength.mean(1, keepdim=True)
        itself, unknown = (edges.source == edges.target).unsqueeze(1), strength.isnan()
        # Never among the strongest, so that it takes nobody's place.
        strength = strength.masked_fill(unknown, 0.0).masked_fill(itself, -torch.inf)
        return self.choose(strength, edges) | itself | unknown  # what is not a number must not be hidden

    @abstractmethod
    def choose(self, strength: Tensor, edges: Candidates) -> Tensor:
        """True where an edge is chosen, shape [edges, columns]; they are minus infinity for edges of a node with
        itself.
        """

    @abstractmethod
    def relaxed(self, tightness: float) -> PruningRule:
        """A milder rule: at 0 it drops nothing, at 1 it is this one."""


@dataclass(frozen=True)
class Threshold(PruningRule):
    r"""Edges with :math:`|\alpha| \geq` ``minimum``.

    Args:
        minimum: in [0, 1).
        per_head, renormalize: as in :class:`PruningRule`.
    """

    minimum: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.minimum < 1:
            raise ValueError(
                f"threshold {self.minimum}: should be in [0, 1), for no weight is above 1 and all edges would be gone"
            )

    def choose(self, strength: Tensor, edges: Candidates) -> Tensor:
        """See the class."""
        return strength >= self.minimum

    def relaxed(self, tightness: float) -> PruningRule:
        """The threshold rises from zero."""
        return replace(self, minimum=self.minimum * tightness)


@dataclass(frozen=True)
class TopK(PruningRule):
    """The ``k`` strongest edges that arrive at each node; all of them where there are no more than k.

    That a node has fewer edges than k is no error: in a batch, some jets always have.

    Args:
        k: at least 1.
        per_head, renormalize: as in :class:`PruningRule`.
    """

    k: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or not 1 <= self.k <= MOST_EDGES:
            raise ValueError(
                f"k = {self.k}: should be a whole number of at least 1, or all edges would be gone, and at most 2^62"
            )

    def choose(self, strength: Tensor, edges: Candidates) -> Tensor:
        """See the class."""
        return rank_in_segment(strength, edges.target) < self.k

    def relaxed(self, tightness: float) -> PruningRule:
        """The number falls as k / tightness."""
        return replace(self, k=math.ceil(self.k / tightness) if tightness * MOST_EDGES > self.k else MOST_EDGES)


@dataclass(frozen=True)
class TopMass(PruningRule):
    r"""The fewest edges that hold the share ``share`` of :math:`\sum_j |\alpha_{ij}|` of each node i.

    Args:
        share: in (0, 1]; 1 drops nothing.
        per_head, renormalize: as in :class:`PruningRule`.
    """

    share: float = 0.95

    def __post_init__(self) -> None:
        _check_share("share", self.share)

    def choose(self, strength: Tensor, edges: Candidates) -> Tensor:
        """See the class."""
        if self.share == 1:
            return torch.ones_like(strength, dtype=torch.bool)
        strength = strength.clamp(min=0).to(_precise(strength))  # sums of many small weights
        before, total = sums_in_segment(strength, edges.target, edges.num_targets)
        return before < self.share * total.index_select(0, edges.target)

    def relaxed(self, tightness: float) -> PruningRule:
        """The share falls from one."""
        return replace(self, share=1 - tightness + tightness * self.share)


@dataclass(frozen=True)
class EdgeBudget(PruningRule):
    """The strongest edges of each graph, up to a fraction of those between different nodes, rounded up.

    Of several layers in turn each keeps this fraction of what the one before has left.

    Args:
        fraction: in (0, 1]; 1 drops nothing.
        per_head, renormalize: as in :class:`PruningRule`.
    """

    fraction: float = 0.3

    def __post_init__(self) -> None:
        _check_share("fraction", self.fraction)

    def choose(self, strength: Tensor, edges: Candidates) -> Tensor:
        """See the class."""
        sizes = torch.bincount(edges.graph)
        itself = (edges.source == edges.target).nonzero().squeeze(1)
        between = sizes - torch.bincount(edges.graph.index_select(0, itself), minlength=sizes.numel())
        end = (sizes.cumsum(0) - sizes + self.number(between)).repeat_interleave(sizes)
        best_first = torch.arange(end.numel(), device=end.device) < end
        order = _by_segment(strength, edges.graph)
        return torch.empty_like(strength, dtype=torch.bool).scatter_(0, order, best_first.unsqueeze(1).expand_as(order))

    def number(self, edges: Tensor) -> Tensor:
        """How many of so many edges survive, at least one."""
        # A tensor, for ONNX rounds numbers of Python to float32.
        fraction = torch.tensor(self.fraction, dtype=_precise(edges), device=edges.device)
        # A little less, so that 0.07 of 100 edges, 7.000000000000001, are not 8.
        return (edges * fraction - 1e-6).ceil().clamp(min=1).long()

    def relaxed(self, tightness: float) -> PruningRule:
        """The fraction falls from one."""
        return replace(self, fraction=1 - tightness + tightness * self.fraction)


RULES: dict[str, type[PruningRule]] = {
    "threshold": Threshold,
    "top_k": TopK,
    "top_mass": TopMass,
    "edge_budget": EdgeBudget,
}
"""The rules by name."""


def pruning_rule(name: str, strength: float, per_head: bool = False, renormalize: bool = False) -> PruningRule:
    """A rule by name.

    Args:
        name: a key of :data:`RULES`.
        strength: the rule's own number: minimum, k, share or fraction.
        per_head: as in :class:`PruningRule`.
        renormalize: as in :class:`PruningRule`.

    Raises:
        ValueError: there is no such rule, or its number is out of range.
    """
    if name not in RULES:
        raise ValueError(f"unknown pruning rule '{name}'; there are {', '.join(RULES)}")
    rule: Callable[..., PruningRule] = RULES[name]
    if rule is TopK and float(strength).is_integer():
        strength = int(strength)
    return rule(strength, per_head=per_head, renormalize=renormalize)


def rank_in_segment(values: Tensor, segment: Tensor) -> Tensor:
    """The place of each value among those of its segment, 0 for the largest; of equal ones the first in order.

    Args:
        values: shape [rows, columns].
        segment: the segment of each row, shape [rows].

    Returns:
        Ranks, shape [rows, columns].
    """
    order = _by_segment(values, segment)
    sizes = torch.bincount(segment)
    begin = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    place = torch.arange(segment.numel(), device=segment.device) - begin
    return torch.empty_like(order).scatter_(0, order, place.unsqueeze(1).expand_as(order))


def sums_in_segment(values: Tensor, segment: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """For each value the sum of the larger ones of its segment, and the sum of each segment.

    Args:
        values: none negative, shape [rows, columns].
        segment: the segment of each row, shape [rows].
        num_segments: number of segments.

    Returns:
        Shapes [rows, columns] and [num_segments, columns].
    """
    total = segment_sum(values, segment, num_segments)
    order = _by_segment(values, segment)
    ordered = values.gather(0, order)
    before = total.cumsum(0) - total  # what all earlier segments sum to
    ascending = segment.index_select(0, order[:, 0])  # not by counting, whose result has a size that depends on values
    running = ordered.cumsum(0) - ordered - before.index_select(0, ascending)
    return torch.empty_like(values).scatter_(0, order, running), total


def _by_segment(values: Tensor, segment: Tensor) -> Tensor:
    """Rows in the order of segments, within one in that of falling values; for each column."""
    columns = []
    for column in values.unbind(1):
        # A CPU sorts one column of whole numbers in a tenth of the time. The bits of positive floating-point numbers
        # are in their order, those of negative ones in the opposite order: turned round by flipping all but the sign.
        column = column if column.dtype == torch.float64 else column.float()
        bits = column.contiguous().view(torch.int64 if column.dtype == torch.float64 else torch.int32)
        integers = torch.iinfo(bits.dtype)
        falling = ~(bits ^ ((bits >> (integers.bits - 1)) & integers.max))
        if bits.dtype == torch.int32:  # there is room for the segment in front
            columns.append(falling.add(segment << 32).argsort(stable=True))
        else:
            order = falling.argsort(stable=True)
            columns.append(order.index_select(0, segment.index_select(0, order).argsort(stable=True)))
    return torch.stack(columns, dim=1)


def _precise(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64  # Apple's GPUs have no more


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} {value}: should be in (0, 1]; with 0 all edges would be gone")
