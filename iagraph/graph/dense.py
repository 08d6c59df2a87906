"""Complete graphs in dense blocks of similar size: the fastest form on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from iagraph.graph.protocol import Graph, Scores, Weigh
from iagraph.graph.sparse import SparseGraph, strongest_pairs
from iagraph.kernels.blocks import BlockPairs, exponential_sum, joined, regroup, softmax_sum, table
from iagraph.kernels.switch import fast

MAX_SIZE_CLASSES = 16
"""Graphs of similar size share a dense block: 16 blocks for 64 jets have 1.14 times as many slots as nodes."""

MAX_SIZE_CLASSES_ON_GPUS = 4
"""Fewer than on a CPU: each block costs kernel launches, and padding costs little."""

EDGES_OF_BLOCK_ON_GPUS = 2**19
"""With fewer edges in each, blocks on GPUs are joined: 512 jets share two, 64 a single one."""

WIDE = 16
"""From this many channels per head, products of values with maps are faster with channels last."""


@dataclass
class DenseBlock:
    """Complete graphs of similar size: G graphs, padded to the N nodes of the largest.

    Attributes:
        nodes: the node in each slot, -1 for padding; shape [G, N].
        sizes: numbers of nodes of the graphs, on the host.
    """

    nodes: Tensor
    sizes: Sequence[int]

    @cached_property
    def padding(self) -> Tensor:
        """True for slots without a node, shape [G, N]."""
        return self.nodes < 0

    @cached_property
    def pairs(self) -> BlockPairs:
        """The pairs of its nodes, computed when first needed."""
        graphs, size = self.nodes.shape
        number = sum(n * (n + 1) // 2 for n in self.sizes)
        slot, pair = _arange(graphs * size, self.nodes), _arange(number, self.nodes)
        # In a graph of n nodes, target t has the sources t to n - 1.
        remaining = torch.arange(size, 0, -1, device=slot.device)
        sources = (remaining - self.padding.sum(1, keepdim=True)).clamp(min=0).flatten()
        begin = sources.cumsum(0) - sources
        first = slot.repeat_interleave(sources, output_size=number)
        second = pair + (slot - begin).index_select(0, first)
        edge = torch.add(second % size, first, alpha=size)
        mirrored = torch.add(first % size, second, alpha=size)
        # Edges to padding get the first pair: softmax over a row without any edge would give NaN.
        to_padding_alone = self.padding.unsqueeze(2) & ~self.padding.unsqueeze(1)
        pair_of_edge = torch.full_like(to_padding_alone, number, dtype=torch.long).masked_fill_(to_padding_alone, 0)
        pair_of_edge = pair_of_edge.flatten()
        pair_of_edge.scatter_(0, edge, pair).scatter_(0, mirrored, pair)
        is_between = (first != second).float()
        nodes = self.nodes.flatten()
        between = nodes.index_select(0, first), nodes.index_select(0, second)
        return BlockPairs(*between, pair_of_edge, (edge, mirrored), is_between, (graphs, size))


@dataclass
class DenseScores:
    """Scores of the edges of all blocks.

    Attributes:
        of_pairs: values of the pairs of each block, shape [maps, pairs].
        blocks: the blocks.
    """

    of_pairs: Sequence[Tensor]
    blocks: Sequence[DenseBlock]

    @cached_property
    def tables(self) -> list[Tensor]:
        """Scores of each block as a table of directed edges, shape [maps, G, N targets, N sources]."""
        return [table(values, block.pairs) for values, block in zip(self.of_pairs, self.blocks, strict=True)]


class DenseGraph(Graph):
    """Complete graphs with self-edges, possibly with some pairs dropped. :meth:`attend` returns no weights.

    Args:
        ptr: where each graph's nodes begin and end, shape [graphs + 1].
        batch: the graph of each node, shape [nodes], if already known.
        sizes: numbers of nodes of the graphs, if known on the host.

    Attributes:
        blocks: the dense blocks.
        node_of_slot: the node in each slot of the concatenated blocks, the number of nodes for padding.
        slot_of_node: the slot of each node.
    """

    def __init__(self, ptr: Tensor, batch: Tensor | None = None, sizes: Sequence[int] | None = None) -> None:
        if batch is None:
            batch = _arange(ptr.numel() - 1, ptr).repeat_interleave(ptr.diff())
        self.num_nodes, self.num_graphs, self.batch = batch.numel(), ptr.numel() - 1, batch
        ordered, order = ptr.diff().sort(stable=True)
        sizes = ordered.tolist() if sizes is None else sorted(sizes)
        most = MAX_SIZE_CLASSES
        if ptr.device.type != "cpu":
            filled = sum(size**2 for size in sizes) // EDGES_OF_BLOCK_ON_GPUS
            most = min(max(filled, 1), MAX_SIZE_CLASSES_ON_GPUS)
        self.blocks = []
        for begin, end in _size_classes(sizes, most):
            position = _arange(sizes[end - 1] if begin < end else 0, ptr)
            node = ptr[:-1][order[begin:end]].unsqueeze(1) + position
            nodes = torch.where(position < ordered[begin:end].unsqueeze(1), node, -1)
            self.blocks.append(DenseBlock(nodes, sizes[begin:end]))
        slots = joined([block.nodes.flatten() for block in self.blocks])
        self.node_of_slot = slots.masked_fill(slots < 0, self.num_nodes)
        # Padding goes to an extra last place, which is then cut off.
        place = slots.new_empty(self.num_nodes + 1)
        self.slot_of_node = place.scatter_(0, self.node_of_slot, _arange(slots.numel(), ptr))[:-1]

    @cached_property
    def first(self) -> Tensor:  # type: ignore[override]
        """One node of each unordered pair, block after block, shape [pairs]."""
        return joined([block.pairs.first for block in self.blocks])

    @cached_property
    def second(self) -> Tensor:  # type: ignore[override]
        """The other node of each pair, shape [pairs]."""
        return joined([block.pairs.second for block in self.blocks])

    @property
    def pair_counts(self) -> list[int]:  # type: ignore[override]
        """The number of pairs of each block."""
        return [block.pairs.first.numel() for block in self.blocks]

    def keep_strongest_pairs(self, strength: Tensor, number: Callable[[Any], Any]) -> tuple[DenseGraph, Tensor]:
        """See :meth:`Graph.keep_strongest_pairs`; dropped pairs keep their place and get no weight."""
        kept = copy(self)
        kept.counted_pairs = strongest_pairs(self, strength, number)
        return kept, _arange(strength.numel(), strength)

    def scores(self, pair_values: Sequence[Tensor]) -> DenseScores:
        """See :meth:`Graph.scores`."""
        if self.counted_pairs is not None:
            pieces = zip(pair_values, self.counted_pairs.split(self.pair_counts), strict=True)
            pair_values = [values.where(counted, -torch.inf) for values, counted in pieces]
        return DenseScores(pair_values, self.blocks)

    def dot(self, queries: Tensor, keys: Tensor, heads: int, scores: Scores | None = None) -> list[Tensor]:
        """See :meth:`Graph.dot`; one table [heads, G, N targets, N sources] per block."""
        if scores is None and self.counted_pairs is not None:
            scores = self.scores([queries.new_zeros(heads, number) for number in self.pair_counts])
        products = []
        for number, (block, query, key) in enumerate(
            zip(self.blocks, self._padded(queries), self._padded(keys), strict=True)
        ):
            graphs, size = block.nodes.shape
            if scores is None:  # one row for all targets of a graph
                start = torch.where(block.padding, -torch.inf, 0.0).to(query.dtype).unsqueeze(1).repeat(heads, 1, 1)
            else:
                start = scores.tables[number].flatten(0, 1)
            # Product and sum in one pass: blocks are too large to stay in cache between two.
            query, key = per_head(query, heads).flatten(0, 1), per_head(key, heads).flatten(0, 1)
            products.append(torch.baddbmm(start, query, key.mT).view(heads, graphs, size, size))
        return products

    def attend(self, scores: Scores, values: Tensor, weigh: Weigh, dropout: Weigh | None = None) -> tuple[Tensor, None]:
        """See :meth:`Graph.attend`. For scores of pairs without dropout, ``weigh`` is applied to the sums instead of
        the maps: as it is linear, the result is the same, and no table of weights is needed.
        """
        if isinstance(scores, DenseScores) and dropout is None:
            maps = len(scores.of_pairs[0])
            of_maps = values.repeat(1, maps // values.size(1), 1).flatten(1)
            sums = self._softmax_sums(scores.of_pairs, of_maps, maps)
            return weigh(sums.transpose(0, 1)).transpose(0, 1), None
        tables = scores.tables if isinstance(scores, DenseScores) else scores
        weights = []
        for each in tables:
            maps_of_block = each.softmax(-1)
            weights.append(weigh(maps_of_block if dropout is None else dropout(maps_of_block)))
        return self._aggregate(weights, values.flatten(1)), None

    def with_tokens(self) -> SparseGraph:
        """See :meth:`Graph.with_tokens`."""
        return SparseGraph.of_tokens(self.batch, self.num_graphs)

    def _aggregate(self, weights: list[Tensor], values: Tensor) -> Tensor:
        """Weighted sums, shape [nodes, heads, channels], with weights [heads, G, N, N] per block."""
        heads = len(weights[0])
        if values.size(1) >= heads * WIDE:
            blocks = [per_head(value, heads) for value in self._padded(values)]
            return self._by_node([(weight @ value).mT for weight, value in zip(weights, blocks, strict=True)])
        by_channel = self._by_channel(values, heads)
        return self._by_node([value @ weight.mT for weight, value in zip(weights, by_channel, strict=True)])

    def _softmax_sums(self, of_pairs: Sequence[Tensor], values: Tensor, maps: int) -> Tensor:
        """Softmax-weighted sums over the sources; values [nodes, maps * channels] to [nodes, maps, channels]."""
        quotients = self._quotients(of_pairs, values, maps)
        if quotients is not None:
            return quotients
        pieces = zip(of_pairs, self._by_channel(values, maps), self.blocks, strict=True)
        return self._by_node([softmax_sum(score, value, block.pairs) for score, value, block in pieces])

    def _quotients(self, of_pairs: Sequence[Tensor], values: Tensor, maps: int) -> Tensor | None:
        """:meth:`_softmax_sums` as quotients, sums weighted by exponentials over sums of exponentials, in two thirds of
        the time. None where that is imprecise (16 bits, or scores far apart), slow (the check would wait for a GPU), or
        where fast kernels are off.
        """
        dtype = of_pairs[0].dtype
        full = values.dtype == dtype and dtype in (torch.float32, torch.float64)
        if not (full and fast() and self.num_nodes) or values.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return None
        # An extra channel of ones sums the weights.
        with_ones = torch.nn.functional.pad(values.unflatten(1, (maps, -1)), (0, 1), value=1.0).flatten(1)
        pieces = zip(of_pairs, self._by_channel(with_ones, maps), self.blocks, strict=True)
        sums = self._by_node([exponential_sum(score, value, block.pairs) for score, value, block in pieces])
        total = sums[:, :, -1:].contiguous()
        # If a target's scores are all far below the map's maximum, its exponentials lose precision or vanish.
        precise = bool(total.amin() >= torch.finfo(dtype).tiny / torch.finfo(dtype).eps)
        return sums[:, :, :-1] / total if precise else None

    @torch.no_grad()
    def nearest(self, points: Tensor, k: int) -> Tensor:
        """See :meth:`Graph.nearest`."""
        pieces = []
        # 16 bits cannot tell neighbours apart.
        with torch.autocast(points.device.type, enabled=False):
            points = points if points.dtype == torch.float64 else points.float()
            for block, place in zip(self.blocks, self._padded(points), strict=True):
                distance = distances(place, block.padding)
                shortest, slot = distance.topk(min(k, distance.size(1)), largest=False)
                node = block.nodes.unsqueeze(1).expand_as(distance).gather(2, slot)
                node = torch.where(shortest == torch.inf, -1, node).flatten(0, 1)
                pieces.append(torch.nn.functional.pad(node, (0, k - node.size(1)), value=-1))
        return joined(pieces)[self.slot_of_node]

    def _padded(self, values: Tensor) -> list[Tensor]:
        """Values of nodes, shape [nodes, channels], as blocks [G, N, channels], zero in padding."""
        slots = regroup(values, self.node_of_slot, self.slot_of_node)
        pieces = slots.split([block.nodes.numel() for block in self.blocks])
        return [
            piece.view(*block.nodes.shape, values.size(1)) for piece, block in zip(pieces, self.blocks, strict=True)
        ]

    def _by_channel(self, values: Tensor, maps: int) -> list[Tensor]:
        """Values of nodes, shape [nodes, maps * channels], as blocks [maps, G, channels, N]: in this layout, a CPU
        multiplies maps by values of two channels in less than half of the time.
        """
        blocks = [block.unflatten(2, (maps, -1)) for block in self._padded(values)]
        return [block.permute(2, 0, 3, 1).contiguous() for block in blocks]

    def _by_node(self, blocks: list[Tensor]) -> Tensor:
        """The inverse of :meth:`_by_channel`, shape [nodes, maps, channels]."""
        slots = joined([block.permute(1, 3, 0, 2).flatten(0, 1) for block in blocks])
        return regroup(slots.flatten(1), self.slot_of_node, self.node_of_slot).view(-1, *slots.shape[1:])


def per_head(values: Tensor, heads: int) -> Tensor:
    """Blocks [G, N, heads * channels] as [heads, G, N, channels]."""
    return values.unflatten(2, (heads, -1)).permute(2, 0, 1, 3)


def distances(place: Tensor, padding: Tensor) -> Tensor:
    """Squared distances between the nodes of each graph; infinite from a node to itself and to padding.

    Args:
        place: coordinates, shape [G, N, dimensions], zero in padding.
        padding: True for slots without a node, shape [G, N].

    Returns:
        Shape [G, N, N].
    """
    real = ~padding.unsqueeze(2)
    place = (place - place.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)) * real
    square = place.square().sum(2)
    distance = square.unsqueeze(2) + square.unsqueeze(1) - 2 * place @ place.transpose(1, 2)
    itself = torch.eye(distance.size(1), dtype=torch.bool, device=place.device)
    return distance.masked_fill_(padding.unsqueeze(1) | itself, torch.inf)


def _arange(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device)


def _size_classes(ordered: Sequence[int], most: int) -> list[tuple[int, int]]:
    """Splits ascending sizes into at most ``most`` runs with about the same number of graphs. Empty graphs are left
    out; there is always at least one run, which may be empty.
    """
    begin = next((k for k, size in enumerate(ordered) if size > 0), len(ordered))
    graphs = len(ordered) - begin
    classes = max(min(most, graphs), 1)
    return list(pairwise(begin + graphs * k // classes for k in range(classes + 1)))
