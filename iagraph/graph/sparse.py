"""Graphs as lists of edges in any order, which can be pruned; functions that list all edges or all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from iagraph.graph.protocol import Graph, PrunableGraph, Scores
from iagraph.segment import UNAVAILABLE, count, ptr_of, segment_softmax, segment_sum, weighted_sum


def fully_connected(ptr: Tensor) -> Tensor:
    """All directed edges within each graph of a batch, self-edges included.

    Args:
        ptr: where each graph's nodes begin and end, shape [graphs + 1].

    Returns:
        ``edge_index``, shape [2, edges], rows (source, target), sorted by target, then by source.
    """
    sizes = ptr.diff()
    size_of_node = sizes.repeat_interleave(sizes)
    first_of_node = ptr[:-1].repeat_interleave(sizes)
    target, source = _runs(first_of_node, size_of_node)
    return torch.stack([source, target])


def unordered_pairs(ptr: Tensor, sizes: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
    """All unordered pairs of nodes within each graph of a batch, self-pairs included.

    Args:
        ptr: where each graph's nodes begin and end, shape [graphs + 1].
        sizes: numbers of nodes of the graphs, if known on the host.

    Returns:
        The two nodes, ``first <= second``, each of shape [pairs], sorted by the first, then by the second.
    """
    sizes = ptr.diff().tolist() if sizes is None else sizes
    node = torch.arange(sum(sizes), device=ptr.device)
    end_of_node = ptr[1:].repeat_interleave(ptr.diff(), output_size=node.numel())
    return _runs(node, end_of_node - node, sum(n * (n + 1) // 2 for n in sizes))


def fully_connected_ids(edge_index: Tensor, ptr: Tensor, batch: Tensor) -> Tensor:
    """The index of each edge in :func:`fully_connected`, shape [edges].

    Args:
        edge_index: edges within graphs, rows (source, target), shape [2, edges].
        ptr: where each graph's nodes begin and end, shape [graphs + 1].
        batch: the graph of each node, shape [nodes].
    """
    source, target = edge_index
    graph, sizes = batch.index_select(0, target), ptr.diff()
    begin, size = ptr[graph], sizes[graph]
    edges_before = (sizes.square().cumsum(0) - sizes.square())[graph]
    return edges_before + (target - begin) * size + source - begin


def _runs(begin: Tensor, length: Tensor, total: int | None = None) -> tuple[Tensor, Tensor]:
    """For each k, ``length[k]`` numbers ``begin[k], begin[k] + 1, ...``: returns k and the number, each of shape [sum
    of lengths]; ``total`` is that sum, if known.
    """
    index = torch.arange(begin.numel(), device=begin.device).repeat_interleave(length, output_size=total)
    shift = begin - (length.cumsum(0) - length)
    return index, torch.arange(index.numel(), device=begin.device) + shift.index_select(0, index)


def sorted_ptr(index: Tensor, num_segments: int) -> Tensor | None:
    """Where each segment begins and ends, shape [num_segments + 1], if ``index`` is ascending; otherwise None.

    Also None where it is not used: on a GPU without torch-scatter, and under ``torch.compile``, whose code must not
    depend on values.
    """
    wanted = index.device.type == "cpu" or not UNAVAILABLE
    if torch.compiler.is_compiling() or not wanted or bool((index[1:] < index[:-1]).any()):
        return None
    return ptr_of(count(index, num_segments))


def check_edges(edge_index: Tensor, num_sources: int, num_targets: int) -> None:
    """Check that edges join existing nodes; nodes are not checked under ``torch.compile`` and on a GPU, where the host
    would wait.

    Args:
        edge_index: rows (source, target), shape [2, edges], int32 or int64.
        num_sources: number of source nodes.
        num_targets: number of target nodes.

    Raises:
        ValueError: ``edge_index`` is not a list of edges, or a node does not exist.
    """
    if edge_index.ndim != 2 or edge_index.size(0) != 2 or edge_index.dtype not in (torch.int32, torch.int64):
        found = f"{edge_index.dtype}, shape {list(edge_index.shape)}"
        raise ValueError(f"edge_index should hold integers, shape [2, edges], found {found}")
    if edge_index.device.type == "cpu" and edge_index.numel() and not torch.compiler.is_compiling():
        for what, nodes, number in zip(("source", "target"), edge_index, (num_sources, num_targets), strict=True):
            smallest, largest = map(int, nodes.aminmax())
            if smallest < 0 or largest >= number:
                node = smallest if smallest < 0 else largest
                raise ValueError(f"edge_index has the {what} {node}: nodes are numbered from 0, and there are {number}")


class SparseGraph(PrunableGraph):
    """Directed edges in any order, as in PyTorch Geometric. Create it with one of the class methods.

    Attributes:
        num_sources: number of source nodes.
        pair_of_edge: the pair of each edge, shape [edges]; None if each edge has its own scores.
    """

    def __init__(
        self,
        num_nodes: int,
        batch: Tensor,
        num_graphs: int,
        first: Tensor,
        second: Tensor,
        edges: tuple[Tensor, Tensor | None, Tensor | None] | None = None,
        num_sources: int | None = None,
        between: Sequence[int] | None = None,
    ) -> None:
        self.num_nodes, self.batch, self.num_graphs = num_nodes, batch, num_graphs
        self.first, self.second = first, second
        self._between = between  # numbers of pairs of different nodes of each graph, if known on the host
        self._edges = edges  # edge_index, pair_of_edge, edge_ids; listed from the pairs when first needed
        self._ptr: tuple[Tensor | None] | None = None  # in Python 3.11 torch.compile cannot read a cached_property
        self.bipartite = num_sources is not None
        self.num_sources = num_nodes if num_sources is None else num_sources

    @classmethod
    def scored_per_edge(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        batch: Tensor | None = None,
        num_sources: int | None = None,
        num_graphs: int = 1,
    ) -> SparseGraph:
        """A graph with the given edges, each with its own scores.

        Args:
            edge_index: shape [2, edges], rows (source, target).
            num_nodes: number of target nodes.
            batch: the graph of each target; None for a single graph.
            num_sources: number of source nodes of a bipartite graph; None if sources and targets are the same nodes.
            num_graphs: number of graphs; 0 if unknown, which suffices unless means over graphs are needed.
        """
        edge_index = edge_index.long()
        source, target = edge_index
        batch = edge_index.new_zeros(num_nodes) if batch is None else batch.long()
        return cls(num_nodes, batch, num_graphs, target, source, (edge_index, None, None), num_sources)

    @classmethod
    def scored_per_pair(
        cls, edge_index: Tensor, num_nodes: int, batch: Tensor | None = None, num_graphs: int = 1
    ) -> SparseGraph:
        """A graph with the given edges; both directions of an edge share the scores of their pair.

        Args:
            edge_index: shape [2, edges], rows (source, target).
            num_nodes: number of nodes.
            batch: the graph of each node; None for a single graph.
            num_graphs: number of graphs.
        """
        edge_index = edge_index.long()
        source, target = edge_index
        key = torch.minimum(source, target) * num_nodes + torch.maximum(source, target)
        unique, pair_of_edge = key.unique(return_inverse=True)
        first = unique.div(max(num_nodes, 1), rounding_mode="floor")
        second = unique % max(num_nodes, 1)
        edge_ids = torch.arange(source.numel(), device=source.device)
        batch = edge_index.new_zeros(num_nodes) if batch is None else batch.long()
        return cls(num_nodes, batch, num_graphs, first, second, (edge_index, pair_of_edge, edge_ids))

    @classmethod
    def from_pairs(
        cls, first: Tensor, second: Tensor, batch: Tensor, num_graphs: int, between: Sequence[int] | None = None
    ) -> SparseGraph:
        """A graph with both directed edges of each given pair of nodes, and one edge for a self-pair.

        Edges are built when first needed. They are sorted by target, then by source, so the set of all pairs reproduces
        the edges of :func:`fully_connected`.

        Args:
            first: one node of each pair, each pair once; shape [pairs].
            second: the other, ``first <= second``; pairs are sorted by the first, then by the second.
            batch: the graph of each node, shape [nodes], ascending.
            num_graphs: number of graphs.
            between: number of pairs of different nodes of each graph; given, the host need not wait for a GPU.
        """
        return cls(batch.numel(), batch, num_graphs, first, second, between=between)

    @classmethod
    def of_tokens(cls, batch: Tensor, num_graphs: int) -> SparseGraph:
        """See :meth:`Graph.with_tokens`."""
        token = torch.arange(num_graphs, device=batch.device)
        sources = torch.arange(num_graphs + batch.numel(), device=batch.device)
        edge_index = torch.stack([sources, torch.cat([token, batch])])
        return cls.scored_per_edge(edge_index, num_graphs, token, sources.numel(), num_graphs)

    # --- its edges ---------------------------------------------------------------------------------------------------

    def _listed(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self._edges is None:
            pair = torch.arange(self.first.numel(), device=self.first.device)
            between = None if self._between is None else sum(self._between)
            mirrored = _places(self.first != self.second, between)
            source = torch.cat([self.first.index_select(0, mirrored), self.second])
            # A CPU sorts 32-bit integers in half of the time of 64-bit ones.
            target = torch.cat([self.second.index_select(0, mirrored), self.first])
            order = target.int().argsort(stable=True)
            pair_of_edge = torch.cat([mirrored, pair]).index_select(0, order)
            edge_index = torch.stack([source.index_select(0, order), target.index_select(0, order)])
            self._edges = (edge_index, pair_of_edge, None)
        return self._edges

    @property
    def edge_index(self) -> Tensor:
        """The edges, rows (source, target), shape [2, edges]; never modified."""
        return self._listed()[0]

    @property
    def pair_of_edge(self) -> Tensor | None:
        """See the class."""
        return self._listed()[1]

    @property
    def edge_ids(self) -> Tensor:
        """The index of each edge among those that the graph was made from, shape [edges]; for a graph made from pairs,
        its index in :func:`fully_connected`.
        """
        edge_index, pair_of_edge, edge_ids = self._listed()
        if edge_ids is not None:
            return edge_ids
        if pair_of_edge is None:
            return torch.arange(edge_index.size(1), device=edge_index.device)
        ptr = ptr_of(torch.bincount(self.batch, minlength=self.num_graphs))
        return fully_connected_ids(edge_index, ptr, self.batch)

    @property
    def pair_counts(self) -> list[int]:  # type: ignore[override]
        """The number of pairs, as a list of length 1."""
        return [self.first.numel()]

    @property
    def ptr(self) -> Tensor | None:
        """Where the edges of each target begin and end if sorted by target, otherwise None: see :func:`sorted_ptr`."""
        if torch.compiler.is_compiling():
            return None
        if self._ptr is None:
            self._ptr = (sorted_ptr(self.edge_index[1], self.num_nodes),)
        return self._ptr[0]

    @property
    def is_self(self) -> Tensor:  # type: ignore[override]
        """See :class:`PrunableGraph`. A bipartite graph has no self-edges, even where indices match."""
        source, target = self.edge_index
        return torch.zeros_like(source, dtype=torch.bool) if self.bipartite else source == target

    @property
    def graph_of_edge(self) -> Tensor:
        """The graph of each edge, shape [edges]."""
        return self.batch.index_select(0, self.edge_index[1])

    # --- attention ---------------------------------------------------------------------------------------------------
    # Values of edges are stored edge by edge, [edges, maps], and returned transposed.

    def scores(self, pair_values: Sequence[Tensor]) -> Tensor:
        """See :meth:`Graph.scores`; shape [maps, edges]."""
        (values,) = pair_values
        if self.pair_of_edge is None:
            return values
        return values.t().contiguous().index_select(0, self.pair_of_edge).t()

    def dot(self, queries: Tensor, keys: Tensor, heads: int, scores: Scores | None = None) -> Tensor:
        """See :meth:`Graph.dot`; shape [heads, edges]."""
        source, target = self.edge_index
        query, key = queries.unflatten(1, (heads, -1)), keys.unflatten(1, (heads, -1))
        products = (query.index_select(0, target) * key.index_select(0, source)).sum(-1).t()
        return products if scores is None else products + scores

    def softmax(self, scores: Tensor) -> Tensor:
        """See :meth:`PrunableGraph.softmax`; at least in float32."""
        rows = scores.t().to(torch.promote_types(scores.dtype, torch.float32))
        return segment_softmax(rows, self.edge_index[1], self.num_nodes, self.ptr).t()

    def aggregate(self, weights: Tensor, values: Tensor) -> Tensor:
        """See :meth:`PrunableGraph.aggregate`."""
        source, target = self.edge_index
        rows = weights.t().to(values.dtype)
        sums = weighted_sum(rows, values.flatten(1), source, target, self.num_nodes, self.ptr)
        return sums.view(-1, *values.shape[1:])

    def with_tokens(self) -> SparseGraph:
        """See :meth:`Graph.with_tokens`."""
        return SparseGraph.of_tokens(self.batch, self.num_graphs)

    # --- which edges are worth keeping -------------------------------------------------------------------------------

    def strongest(self, strength: Tensor, number: int | Tensor, per: Literal["target", "graph"]) -> Tensor:
        """See :meth:`PrunableGraph.strongest`."""
        of_target = self.edge_index[1], self.num_nodes
        segment, segments = of_target if per == "target" else (self.graph_of_edge, self.num_graphs)
        return _strongest(strength.t(), segment, segments, number).t()

    def cumulative(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`PrunableGraph.cumulative`."""
        target = self.edge_index[1]
        before, total = sums_in_segment(strength.t(), target, self.num_nodes)
        return before.t(), total.index_select(0, target).t()

    def edges_between(self) -> Tensor:
        """See :meth:`PrunableGraph.edges_between`."""
        return _between(self.graph_of_edge, self.is_self, self.num_graphs)

    def keep(self, edges: Tensor, *values: Tensor) -> tuple[Any, ...]:
        """See :meth:`PrunableGraph.keep`."""
        kept = edges.nonzero().squeeze(1)
        edge_index, pair_of_edge, edge_ids = self._listed()
        chosen: tuple[Tensor, Tensor | None, Tensor | None]
        if pair_of_edge is None:
            chosen = (edge_index.index_select(1, kept), kept, kept)
        else:
            ids = None if edge_ids is None else edge_ids.index_select(0, kept)
            chosen = (edge_index.index_select(1, kept), pair_of_edge.index_select(0, kept), ids)
        return self._with(self.first, self.second, chosen), *(v.t().index_select(0, kept).t() for v in values)

    def keep_strongest_pairs(self, strength: Tensor, number: Callable[[Any], Any]) -> tuple[SparseGraph, Tensor]:
        """See :meth:`Graph.keep_strongest_pairs`."""
        chosen = strongest_pairs(self, strength, number)
        between, remaining = None, None
        if self._between is not None:
            between = [min(number(pairs), pairs) for pairs in self._between]
            remaining = chosen.numel() - sum(self._between) + sum(between)
        pairs = _places(chosen, remaining)
        first, second = self.first.index_select(0, pairs), self.second.index_select(0, pairs)
        if self._edges is None:  # dropped edges are then never listed
            return self._with(first, second, None, between), pairs
        (kept,) = self.keep(chosen.index_select(0, self._pair_of_edge()))
        return kept._of_pairs(pairs), pairs

    def without_idle_pairs(self) -> tuple[SparseGraph, Tensor]:
        """See :meth:`PrunableGraph.without_idle_pairs`."""
        needed = torch.zeros_like(self.first, dtype=torch.bool).index_fill_(0, self._pair_of_edge(), True)
        pairs = needed.nonzero().squeeze(1)
        return self._of_pairs(pairs), pairs

    def _of_pairs(self, pairs: Tensor) -> SparseGraph:
        """The same edges with only these pairs, which must include all that the edges use."""
        number = torch.empty_like(self.first).index_copy_(0, pairs, torch.arange(pairs.numel(), device=pairs.device))
        edge_index, _, edge_ids = self._listed()
        edges = (edge_index, number.index_select(0, self._pair_of_edge()), edge_ids)
        return self._with(self.first.index_select(0, pairs), self.second.index_select(0, pairs), edges)

    def _pair_of_edge(self) -> Tensor:
        """The pair of each edge; the index of the edge itself if edges have their own scores."""
        if self.pair_of_edge is None:
            return torch.arange(self.first.numel(), device=self.first.device)
        return self.pair_of_edge

    def _with(
        self,
        first: Tensor,
        second: Tensor,
        edges: tuple[Tensor, Tensor | None, Tensor | None] | None,
        between: Sequence[int] | None = None,
    ) -> SparseGraph:
        sources = self.num_sources if self.bipartite else None
        return SparseGraph(self.num_nodes, self.batch, self.num_graphs, first, second, edges, sources, between)


def _places(mask: Tensor, number: int | None) -> Tensor:
    """Indices of the true entries; if their number is known, the host does not wait for a GPU."""
    if number is None or mask.device.type != "cuda":
        return mask.nonzero().squeeze(1)
    return torch.searchsorted(mask.cumsum(0), torch.arange(1, number + 1, device=mask.device))


def _between(graph: Tensor, itself: Tensor, num_graphs: int) -> Tensor:
    """The number of edges or pairs of each graph, without self-edges; at least ``num_graphs`` entries."""
    all_of_them = count(graph, num_graphs)
    return all_of_them - torch.zeros_like(all_of_them).index_add_(0, graph, itself.to(all_of_them))


def strongest_pairs(graph: Graph, strength: Tensor, number: Callable[[Any], Any]) -> Tensor:
    """True for the pairs that :meth:`Graph.keep_strongest_pairs` keeps, shape [pairs]."""
    itself, graph_of_pair = graph.first == graph.second, graph.batch.index_select(0, graph.first)
    between = _between(graph_of_pair, itself, graph.num_graphs)
    # NaN could rank below self-pairs, and fewer pairs be kept than the host expects.
    strength = strength.nan_to_num().masked_fill(itself, -torch.inf).unsqueeze(1)
    return _strongest(strength, graph_of_pair, graph.num_graphs, number(between)).squeeze(1) | itself


def _strongest(values: Tensor, segment: Tensor, segments: int, number: int | Tensor) -> Tensor:
    """True for the ``number`` (for all segments, or one each) largest values of each segment, shape [rows, columns]."""
    sizes = count(segment, segments)
    begin = sizes.cumsum(0) - sizes
    end = (begin + number).repeat_interleave(sizes, output_size=segment.numel())
    best_first = torch.arange(end.numel(), device=end.device) < end
    order = by_segment(values, segment)
    chosen = best_first.unsqueeze(1).expand_as(order)
    return torch.empty_like(values, dtype=torch.bool).scatter_(0, order, chosen)


def sums_in_segment(values: Tensor, segment: Tensor, num_segments: int) -> tuple[Tensor, Tensor]:
    """For each value, the sum of the larger ones in its segment; and the sum of each segment.

    Args:
        values: non-negative, shape [rows, columns].
        segment: the segment of each row, shape [rows].
        num_segments: number of segments.

    Returns:
        Shapes [rows, columns] and [num_segments, columns].
    """
    total = segment_sum(values, segment, num_segments)
    order = by_segment(values, segment)
    ordered = values.gather(0, order)
    before = total.cumsum(0) - total  # sum over all earlier segments
    ascending = segment.index_select(0, order[:, 0])  # not by counting: its size would depend on values
    running = ordered.cumsum(0) - ordered - before.index_select(0, ascending)
    return torch.empty_like(values).scatter_(0, order, running), total


def by_segment(values: Tensor, segment: Tensor) -> Tensor:
    """For each column, the order that sorts rows by segment, then by descending value, then by position."""
    columns = []
    for column in values.unbind(1):
        # A CPU sorts a single column of integers in a tenth of the time. The bits of positive floats sort as the floats
        # do, those of negative ones in reverse: flipping all but the sign fixes that.
        column = (
            column if column.dtype == torch.float64 else column.float()
        ) + 0.0  # as integers, -0.0 sorts below 0.0
        bits = column.contiguous().view(torch.int64 if column.dtype == torch.float64 else torch.int32)
        integers = torch.iinfo(bits.dtype)
        falling = ~(bits ^ ((bits >> (integers.bits - 1)) & integers.max))
        if bits.dtype == torch.int32:  # the segment fits into the upper half
            columns.append(falling.add(segment << 32).argsort(stable=True))
        else:
            order = falling.argsort(stable=True)
            columns.append(order.index_select(0, segment.index_select(0, order).argsort(stable=True)))
    return torch.stack(columns, dim=1)
