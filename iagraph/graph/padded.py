"""All graphs in one table of slots, [graphs, slots]: shapes do not depend on values.

The slots of all graphs, end to end, are the nodes; empty slots are padding and affect nothing. So ``torch.compile``
captures a whole network, the host never waits for the GPU, and sizes stay dynamic in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from iagraph.graph.dense import distances, per_head
from iagraph.graph.protocol import PrunableGraph, Scores


class PaddedGraph(PrunableGraph):
    """Graphs in slots. Create one with :meth:`complete`.

    Args:
        real: True for slots with a node, shape [graphs, slots].
        edges: True where there is an edge, shape [graphs, targets, sources].
        pairs: for each pair, index in the flattened ``edges`` of its edge with the target ``first``; shape [pairs] if
            compact, otherwise [graphs, pairs of a graph].
        compact: list only pairs of real nodes, so that padding is not encoded but the number of pairs varies. Otherwise
            list all pairs of slots.
    """

    def __init__(self, real: Tensor, edges: Tensor, pairs: Tensor, compact: bool) -> None:
        self.real, self.edges, self.compact = real, edges, compact
        self.num_graphs, self.slots = real.shape
        self.num_nodes = real.numel()
        graph = torch.arange(self.num_graphs, device=real.device)
        self.batch = graph.unsqueeze(1).expand_as(real).flatten()
        self.is_self = torch.eye(self.slots, dtype=torch.bool, device=real.device)
        self.shape_of_pairs, self.pairs = pairs.shape, pairs.flatten()
        # No remainders: ONNX needs static sizes for them.
        self.first = self.pairs // self.slots
        begin = self.first // self.slots * self.slots
        self.second = begin + self.pairs - self.first * self.slots
        mirrored = self.second * self.slots + self.first - begin
        number = torch.arange(self.pairs.numel(), device=pairs.device)
        none = torch.full((self.num_nodes * self.slots,), pairs.numel(), device=pairs.device)
        self.pair_of_edge = none.scatter(0, self.pairs, number).scatter(0, mirrored, number)

    @classmethod
    def complete(cls, real: Tensor, compact: bool = False) -> PaddedGraph:
        """Complete graphs of the real nodes, self-edges included; arguments as in the class."""
        graphs, slots = real.shape
        position = torch.arange(slots, device=real.device)
        edges = real.unsqueeze(1) & real.unsqueeze(2)
        upper = position.unsqueeze(1) <= position
        if compact:
            pairs = (edges & upper).flatten().nonzero().squeeze(1)
        else:
            entry = torch.arange(slots * (slots + 1) // 2, device=real.device)
            # Row by row: row i begins at i N - i (i - 1) / 2.
            begin = position * slots - position * (position - 1) // 2
            row = torch.searchsorted(begin, entry, right=True) - 1
            of_graph = row * slots + row + entry - begin[row]
            pairs = torch.arange(graphs, device=real.device).unsqueeze(1) * slots**2 + of_graph
        return cls(real, edges, pairs, compact)

    @property
    def pair_counts(self) -> list[int]:  # type: ignore[override]
        """The number of pairs, as a list of length 1."""
        return [self.pairs.size(0)]

    @property
    def counted_pairs(self) -> Tensor | None:  # type: ignore[override]
        """See :class:`Graph`."""
        return None if self.compact else self.edges.flatten().index_select(0, self.pairs)

    # --- attention ---------------------------------------------------------------------------------------------------

    def scores(self, pair_values: Sequence[Tensor]) -> Tensor:
        """See :meth:`Graph.scores`; shape [maps, graphs, targets, sources]."""
        (values,) = pair_values
        return self._masked(self._table(values))

    def dot(self, queries: Tensor, keys: Tensor, heads: int, scores: Scores | None = None) -> Tensor:
        """See :meth:`Graph.dot`; a table as in :meth:`scores`."""
        products = per_head(self._targets(queries), heads) @ per_head(self._sources(keys), heads).mT
        return self._masked(products if scores is None else products + scores)

    def softmax(self, scores: Tensor) -> Tensor:
        """See :meth:`PrunableGraph.softmax`; at least in float32."""
        return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))

    def aggregate(self, weights: Tensor, values: Tensor) -> Tensor:
        """See :meth:`PrunableGraph.aggregate`."""
        value = per_head(self._sources(values.flatten(1)), values.size(1))
        return (weights.to(value.dtype) @ value).permute(1, 2, 0, 3).flatten(0, 1)

    def with_tokens(self) -> TokenTable:
        """See :meth:`Graph.with_tokens`."""
        return TokenTable(self.real)

    def mean(self, x: Tensor) -> Tensor:
        """See :meth:`Graph.mean`."""
        x = x.unflatten(0, self.real.shape).where(self.real.unsqueeze(2), 0.0)
        return x.sum(1) / self.real.sum(1, keepdim=True).clamp(min=1)

    def nearest(self, points: Tensor, k: int) -> Tensor:
        """See :meth:`Graph.nearest`."""
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            points = points if points.dtype == torch.float64 else points.float()
            place = points.unflatten(0, self.real.shape).where(self.real.unsqueeze(2), 0.0)
            distance = distances(place, ~self.real)
            # Add k slots, so that every graph has at least k others.
            shortest, slot = pad(distance, (0, k), value=torch.inf).topk(k, largest=False)
        begin = torch.arange(self.num_graphs, device=slot.device).view(-1, 1, 1) * self.slots
        return torch.where(shortest == torch.inf, -1, begin + slot).flatten(0, 1)

    # --- which edges are worth keeping -------------------------------------------------------------------------------

    def strongest(self, strength: Tensor, number: int | Tensor, per: Literal["target", "graph"]) -> Tensor:
        """See :meth:`PrunableGraph.strongest`."""
        strength = strength.where(self.edges, -torch.inf)
        if per == "target":
            return _strongest(strength, number)
        return _strongest(strength.flatten(2), number.unsqueeze(1)).view_as(strength)  # type: ignore[union-attr]

    def cumulative(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`PrunableGraph.cumulative`."""
        ordered, order = strength.where(self.edges, 0.0).sort(dim=-1, descending=True, stable=True)
        before = torch.empty_like(ordered).scatter(-1, order, ordered.cumsum(-1) - ordered)
        return before, ordered.sum(-1, keepdim=True)

    def edges_between(self) -> Tensor:
        """See :meth:`PrunableGraph.edges_between`."""
        return (self.edges & ~self.is_self).sum((1, 2))

    def keep(self, edges: Tensor, *values: Tensor) -> tuple[Any, ...]:
        """See :meth:`PrunableGraph.keep`; values are returned unchanged, even those of dropped edges."""
        kept = copy(self)  # same pairs in the same places
        kept.edges = self.edges & edges
        return kept, *values

    def keep_strongest_pairs(self, strength: Tensor, number: Callable[[Any], Any]) -> tuple[PaddedGraph, Tensor]:
        """See :meth:`Graph.keep_strongest_pairs`.

        If not compact, each graph keeps as many pairs as one without padding would; the surplus is not counted.
        """
        between = number(self.edges.triu(1).sum((1, 2))).unsqueeze(1)
        if self.compact:
            table = strength.new_full((self.num_nodes * self.slots,), -torch.inf).scatter(0, self.pairs, strength)
            table = table.view_as(self.edges).where(self.edges.triu(1), -torch.inf)
            best = _strongest(table.flatten(1), between).view_as(table)
            chosen = (best & self.edges.triu(1)) | (self.edges & self.is_self)
            index = chosen.flatten().index_select(0, self.pairs).nonzero().squeeze(1)
        else:
            shape = self.shape_of_pairs
            itself = (self.first == self.second).view(shape)
            there = self.edges.flatten().index_select(0, self.pairs).view(shape)
            strength = strength.view(shape).where(there, -torch.inf).where(~itself, torch.inf)
            kept = number(self.slots * (self.slots - 1) // 2) + self.slots
            order = strength.sort(dim=1, descending=True, stable=True).indices[:, :kept]
            rank = torch.arange(kept, device=order.device)
            best = (rank < between + self.slots) & there.gather(1, order)
            index = order + torch.arange(self.num_graphs, device=order.device).unsqueeze(1) * shape[1]
            chosen = torch.zeros_like(self.edges).flatten()
            chosen = chosen.scatter(0, self.pairs[index].flatten(), best.flatten()).view_as(self.edges)
        edges = self.edges & (chosen | chosen.mT)
        return PaddedGraph(self.real, edges, self.pairs[index], self.compact), index.flatten()

    def without_idle_pairs(self) -> tuple[PaddedGraph, Tensor]:
        """See :meth:`PrunableGraph.without_idle_pairs`; without effect if the graph is not compact."""
        if not self.compact:
            return self, torch.arange(self.pairs.size(0), device=self.pairs.device)
        needed = (self.edges | self.edges.mT).flatten().index_select(0, self.pairs)
        index = needed.nonzero().squeeze(1)
        return PaddedGraph(self.real, self.edges, self.pairs.index_select(0, index), True), index

    # --- tables ------------------------------------------------------------------------------------------------------

    def _table(self, values: Tensor) -> Tensor:
        """Values of pairs, shape [maps, pairs], as a table [maps, graphs, targets, sources], zero without a pair."""
        maps = values.size(0)
        rows = torch.cat([values.t(), values.new_zeros(1, maps)]).index_select(0, self.pair_of_edge)
        if self.compact:
            # onnxruntime copies whole rows at once, but single numbers one by one. So a product with the unit matrix
            # transposes in a fraction of the time.
            rows = (torch.eye(maps, dtype=rows.dtype, device=rows.device) @ rows.t()).t()
        return rows.t().view(maps, self.num_graphs, self.slots, self.slots)

    def _masked(self, scores: Tensor) -> Tensor:
        """Scores, with the lowest finite number where there is no edge: -inf would give NaN for targets without any."""
        return scores.where(self.edges, torch.finfo(scores.dtype).min)

    def _targets(self, values: Tensor) -> Tensor:
        """Values of targets as a table [graphs, targets, channels]."""
        return values.unflatten(0, self.real.shape)

    def _sources(self, values: Tensor) -> Tensor:
        """Values of sources as a table [graphs, sources, channels]."""
        return values.unflatten(0, self.real.shape)


class TokenTable(PaddedGraph):
    """Graphs in slots with tokens (:meth:`Graph.with_tokens`): one target per graph and one more source slot.

    Args:
        real: True for slots with a node, the token's slot not included, shape [graphs, slots].
    """

    def __init__(self, real: Tensor) -> None:
        self.real = real
        self.num_graphs = self.num_nodes = real.size(0)
        self.edges = torch.cat([real.new_ones(real.size(0), 1), real], dim=1).unsqueeze(1)

    def _targets(self, values: Tensor) -> Tensor:
        return values.unsqueeze(1)

    def _sources(self, values: Tensor) -> Tensor:
        tokens, nodes = values[: self.num_graphs], values[self.num_graphs :]
        return torch.cat([tokens.unsqueeze(1), nodes.unflatten(0, self.real.shape)], dim=1)


def _strongest(values: Tensor, number: int | Tensor) -> Tensor:
    """True for the ``number`` largest values along the last axis; ties go to the first."""
    order = values.sort(dim=-1, descending=True, stable=True).indices
    first = torch.arange(values.size(-1), device=values.device) < number
    return torch.zeros_like(values, dtype=torch.bool).scatter(-1, order, first.expand_as(order))
