"""Graphs as lists of edges: any edges in any order, which can become fewer; and lists of all edges, or all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from iagraph.segment import segment_softmax, weighted_sum


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


def unordered_pairs(ptr: Tensor) -> tuple[Tensor, Tensor]:
    """All unordered pairs of nodes within each graph of a batch, those of a node with itself included.

    Args:
        ptr: where each graph's nodes begin and end, shape [graphs + 1].

    Returns:
        The two nodes, ``first <= second``, each of shape [pairs], sorted by the first, then by the second.
    """
    node = torch.arange(int(ptr[-1]), device=ptr.device)
    end_of_node = ptr[1:].repeat_interleave(ptr.diff())
    return _runs(node, end_of_node - node)


def fully_connected_ids(edge_index: Tensor, ptr: Tensor, batch: Tensor) -> Tensor:
    """The place of each edge in :func:`fully_connected`, shape [edges].

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


def _runs(begin: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """For each k the numbers ``begin[k], begin[k] + 1, ...``, so many: k and number, each of shape [sum of lengths]."""
    index = torch.arange(begin.numel(), device=begin.device).repeat_interleave(length)
    shift = begin - (length.cumsum(0) - length)
    return index, torch.arange(index.numel(), device=begin.device) + shift.index_select(0, index)


def sorted_ptr(index: Tensor, num_segments: int) -> Tensor | None:
    """Where each segment begins and ends, shape [num_segments + 1], if ``index`` is ascending; otherwise None.

    Also None while ``torch.compile`` traces, which must not depend on what tensors hold.
    """
    if torch.compiler.is_compiling() or bool((index[1:] < index[:-1]).any()):
        return None
    return torch.nn.functional.pad(torch.bincount(index, minlength=num_segments).cumsum(0), (1, 0))


@dataclass
class EdgeListGraph:
    """Directed edges between nodes, as PyTorch Geometric has them. Make it with a classmethod.

    Attributes:
        edge_index: shape [2, edges], rows (source, target), any order; never changed.
        num_nodes: number of nodes.
        first, second: the unordered pairs that are to be encoded, each once, ``first <= second``; shape [pairs].
        pair_of_edge: the pair of each edge, shape [edges].
        edge_ids: the place of each edge in the list that the graph was made from, shape [edges].
        batch: the graph of each node, shape [nodes], of ``num_graphs`` graphs in a batch.
    """

    edge_index: Tensor
    num_nodes: int
    first: Tensor
    second: Tensor
    pair_of_edge: Tensor
    edge_ids: Tensor
    batch: Tensor
    num_graphs: int

    @classmethod
    def from_edges(
        cls, edge_index: Tensor, num_nodes: int, batch: Tensor | None = None, num_graphs: int = 1
    ) -> EdgeListGraph:
        """The graph of given edges.

        Args:
            edge_index: shape [2, edges], rows (source, target).
            num_nodes: number of nodes.
            batch: the graph of each node; None if there is but one graph.
            num_graphs: number of graphs.
        """
        source, target = edge_index
        key = torch.minimum(source, target) * num_nodes + torch.maximum(source, target)
        unique, pair_of_edge = key.unique(return_inverse=True)
        first = unique.div(max(num_nodes, 1), rounding_mode="floor")
        second = unique % max(num_nodes, 1)
        edge_ids = torch.arange(source.numel(), device=source.device)
        batch = edge_index.new_zeros(num_nodes) if batch is None else batch
        return cls(edge_index, num_nodes, first, second, pair_of_edge, edge_ids, batch, num_graphs)

    @classmethod
    def from_pairs(cls, first: Tensor, second: Tensor, batch: Tensor, num_graphs: int) -> EdgeListGraph:
        """Both directed edges of each of some pairs of nodes; one for a node with itself.

        They are sorted by target, then by source, so that those of all pairs are the edges of :func:`fully_connected`.

        Args:
            first: one node of each pair, each pair once; shape [pairs].
            second: the other, ``first <= second``; sorted by the first, then by the second.
            batch: the graph of each node, shape [nodes].
            num_graphs: number of graphs.
        """
        pair = torch.arange(first.numel(), device=first.device)
        mirrored = (first != second).nonzero().squeeze(1)
        source = torch.cat([first.index_select(0, mirrored), second])
        # A CPU sorts whole numbers of 32 bits in half of the time of those of 64.
        target = torch.cat([second.index_select(0, mirrored), first])
        order = target.int().argsort(stable=True)
        pair_of_edge = torch.cat([mirrored, pair]).index_select(0, order)
        edge_ids = torch.arange(target.numel(), device=first.device)
        edge_index = torch.stack([source.index_select(0, order), target.index_select(0, order)])
        return cls(edge_index, batch.numel(), first, second, pair_of_edge, edge_ids, batch, num_graphs)

    @property
    def pair_counts(self) -> list[int]:
        """The number of pairs, in a list of one."""
        return [self.first.numel()]

    @cached_property
    def ptr(self) -> Tensor | None:
        """Where the edges of each target begin and end if they are sorted by target, otherwise None."""
        return sorted_ptr(self.edge_index[1], self.num_nodes)

    def lift(self, pair_values: Sequence[Tensor]) -> Tensor:
        """Values of pairs, one piece [channels, pairs], as values of directed edges, shape [edges, channels]."""
        (values,) = pair_values
        return values.t().contiguous().index_select(0, self.pair_of_edge)

    def softmax(self, scores: Tensor) -> Tensor:
        """Softmax of scores, shape [edges, maps], over the edges that arrive at each node."""
        return segment_softmax(scores, self.edge_index[1], self.num_nodes, self.ptr)

    def aggregate(self, weights: Tensor, values: Tensor) -> Tensor:
        r"""Weighted sums over the edges that arrive at each node, :math:`out_i = \sum_j \alpha_{ij} v_j`, per head.

        Args:
            weights: shape [edges, heads].
            values: shape [nodes, heads * channels].

        Returns:
            Shape [nodes, heads * channels].
        """
        source, target = self.edge_index
        return weighted_sum(weights, values, source, target, self.num_nodes, self.ptr)

    def keep(self, edges: Tensor) -> EdgeListGraph:
        """The graph with some of its edges; its pairs stay as they are.

        Args:
            edges: which of them, shape [kept edges].
        """
        return replace(
            self,
            edge_index=self.edge_index.index_select(1, edges),
            pair_of_edge=self.pair_of_edge.index_select(0, edges),
            edge_ids=self.edge_ids.index_select(0, edges),
        )

    def keep_pairs(self, pairs: Tensor) -> EdgeListGraph:
        """The graph with some of its pairs and the edges that belong to them; each pair must have one.

        Args:
            pairs: which of them, ascending, shape [kept pairs].
        """
        kept = torch.zeros_like(self.first, dtype=torch.bool).index_fill_(0, pairs, True)
        graph, _ = self.keep(kept.index_select(0, self.pair_of_edge).nonzero().squeeze(1)).without_idle_pairs()
        return graph

    def without_idle_pairs(self) -> tuple[EdgeListGraph, Tensor]:
        """The graph with the pairs that its edges need, and which these are among those that it had."""
        needed = torch.zeros_like(self.first, dtype=torch.bool).index_fill_(0, self.pair_of_edge, True)
        pairs = needed.nonzero().squeeze(1)
        number = needed.cumsum(0) - 1
        first, second = self.first.index_select(0, pairs), self.second.index_select(0, pairs)
        pair_of_edge = number.index_select(0, self.pair_of_edge)
        return replace(self, first=first, second=second, pair_of_edge=pair_of_edge), pairs
