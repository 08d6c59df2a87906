r"""Rules that choose which edges a layer keeps, from their attention weights.

A rule looks at the absolute weights :math:`|\alpha_{ij}|` of the edges between different nodes. Self-edges are
always kept and do not count towards any limit. A node without a self-edge may lose all edges; its sum is then zero, as
for any node without incoming edges. The graph itself is never changed: a layer with a rule returns the graph of the
kept edges.

Edges can be dropped in two ways, with different results (arXiv 2505.03258 keeps all edges):

- after the softmax (the default): kept edges keep their weights, those of the others become zero;
- before the softmax (``renormalize``): each softmax map is taken over the kept edges alone, so that its weights sum to
  one again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from iagraph.graph import PrunableGraph

MOST_EDGES = 2**62
"""More edges than any node has."""


@dataclass(frozen=True)
class PruningRule(ABC):
    r"""A rule for which edges to keep.

    Args:
        per_head: each head chooses its own edges; an edge is dropped if no head keeps it. Otherwise the mean of
            :math:`|\alpha|` over heads decides for all.
        renormalize: drop before the softmax instead of after it (:mod:`iagraph.nn.pruning`).
    """

    per_head: bool = field(default=False, kw_only=True)
    renormalize: bool = field(default=False, kw_only=True)

    def __call__(self, alpha: Tensor, graph: PrunableGraph) -> Tensor:
        r"""True for kept edges.

        Args:
            alpha: weights of the edges, signed, shape [heads, \*edges].
            graph: the graph of these edges.

        Returns:
            Shape [heads, \*edges], or [1, \*edges] if all heads keep the same.
        """
        strength = alpha.detach().abs()
        strength = strength if strength.dtype == torch.float64 else strength.float()
        if not self.per_head:
            strength = strength.mean(0, keepdim=True)
        itself, unknown = graph.is_self, strength.isnan()
        # Self-edges are never among the strongest, so they do not count towards the limit.
        strength = strength.masked_fill(unknown, 0.0).masked_fill(itself, -torch.inf)
        return self.choose(strength, graph) | itself | unknown  # NaN must stay visible

    @abstractmethod
    def choose(self, strength: Tensor, graph: PrunableGraph) -> Tensor:
        r"""True for chosen edges, shape [heads, \*edges] or [1, \*edges], as ``strength`` (-inf for self-edges)."""

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

    def choose(self, strength: Tensor, graph: PrunableGraph) -> Tensor:
        """See the class."""
        return strength >= self.minimum

    def relaxed(self, tightness: float) -> PruningRule:
        """The threshold times ``tightness``."""
        return replace(self, minimum=self.minimum * tightness)


@dataclass(frozen=True)
class TopK(PruningRule):
    """The ``k`` strongest incoming edges of each node, or all if it has fewer.

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

    def choose(self, strength: Tensor, graph: PrunableGraph) -> Tensor:
        """See the class."""
        return graph.strongest(strength, self.k, per="target")

    def relaxed(self, tightness: float) -> PruningRule:
        """The ``k / tightness`` strongest edges, rounded up."""
        return replace(self, k=math.ceil(self.k / tightness) if tightness * MOST_EDGES > self.k else MOST_EDGES)


@dataclass(frozen=True)
class TopP(PruningRule):
    r"""The nucleus of each node i: the fewest edges that hold the fraction ``p`` of
    :math:`\sum_{j \neq i} |\alpha_{ij}|`.

    Args:
        p: in (0, 1]; 1 drops nothing.
        per_head, renormalize: as in :class:`PruningRule`.
    """

    p: float = 0.95

    def __post_init__(self) -> None:
        _check_fraction("p", self.p)

    def choose(self, strength: Tensor, graph: PrunableGraph) -> Tensor:
        """See the class."""
        if self.p == 1:
            return torch.ones_like(strength, dtype=torch.bool)
        strength = strength.clamp(min=0).to(_precise(strength))  # for sums of many small weights
        before, total = graph.cumulative(strength)
        return before < total * _constant(self.p, total.dtype, total.device)

    def relaxed(self, tightness: float) -> PruningRule:
        """A fraction that falls linearly from 1 as ``tightness`` rises."""
        return replace(self, p=1 - tightness + tightness * self.p)


@dataclass(frozen=True)
class EdgeBudget(PruningRule):
    """The strongest edges of each graph, up to a fraction of those between different nodes, rounded up.

    In a stack of layers, each keeps this fraction of the edges that the previous one kept.

    Args:
        fraction: in (0, 1]; 1 drops nothing.
        per_head, renormalize: as in :class:`PruningRule`.
    """

    fraction: float = 0.3

    def __post_init__(self) -> None:
        _check_fraction("fraction", self.fraction)

    def choose(self, strength: Tensor, graph: PrunableGraph) -> Tensor:
        """See the class."""
        return graph.strongest(strength, self.number(graph.edges_between()), per="graph")

    def number(self, edges: Tensor | int) -> Any:
        """How many of ``edges`` edges to keep, at least one; elementwise for a tensor."""
        # Slightly less, so that 0.07 of 100 edges, 7.000000000000001, is not rounded up to 8.
        if isinstance(edges, int):
            return max(math.ceil(edges * self.fraction - 1e-6), 1)
        fraction = _constant(self.fraction, _precise(edges), edges.device)
        return (edges * fraction - 1e-6).ceil().clamp(min=1).long()

    def relaxed(self, tightness: float) -> PruningRule:
        """A fraction that falls linearly from 1 as ``tightness`` rises."""
        return replace(self, fraction=1 - tightness + tightness * self.fraction)


RULES: dict[str, type[PruningRule]] = {
    "threshold": Threshold,
    "top_k": TopK,
    "top_p": TopP,
    "edge_budget": EdgeBudget,
}
"""The rules by name."""

FORMER_NAMES = {"top_mass": "top_p"}
"""Names of rules in earlier versions, still found in trained models, and their current names."""


def pruning_rule(name: str, strength: float, per_head: bool = False, renormalize: bool = False) -> PruningRule:
    """A rule by name.

    Args:
        name: a key of :data:`RULES`.
        strength: the rule's parameter: minimum, k, p or fraction.
        per_head: as in :class:`PruningRule`.
        renormalize: as in :class:`PruningRule`.

    Raises:
        ValueError: there is no such rule, or ``strength`` is out of range.
    """
    name = FORMER_NAMES.get(name, name)
    if name not in RULES:
        raise ValueError(f"unknown pruning rule '{name}'; there are {', '.join(RULES)}")
    rule: Callable[..., PruningRule] = RULES[name]
    if rule is TopK and float(strength).is_integer():
        strength = int(strength)
    return rule(strength, per_head=per_head, renormalize=renormalize)


def _constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as a tensor, because ONNX rounds Python numbers to float32; filled on the device, without waiting."""
    if device.type == "cpu":
        return torch.tensor(value, dtype=dtype)
    return torch.full((), value, dtype=dtype, device=device)


def _precise(like: Tensor) -> torch.dtype:
    return torch.float32 if like.device.type == "mps" else torch.float64  # Apple's GPUs lack float64


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} {value}: should be in (0, 1]; with 0 all edges would be gone")
