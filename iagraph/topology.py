"""Who talks to whom: the complete graph of each jet, as dense blocks, and any other graph, as a list of edges.

Both carry what an attention layer needs and no more: the unordered pairs of nodes that are to be encoded, how the
values of pairs become values of directed edges, and the sum over the edges that arrive at a node. A layer written over
them gives the same numbers on either; tests prove it. Nothing here knows of physics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

MAX_SIZE_CLASSES = 16
"""Graphs of similar size share a dense block: with 16 blocks for 64 jets, padded slots are 1.14 times the real ones."""


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
    target = _arange(int(ptr[-1]), ptr).repeat_interleave(size_of_node)
    edge_start = size_of_node.cumsum(0) - size_of_node
    source = _arange(target.numel(), ptr) - (edge_start - first_of_node).repeat_interleave(size_of_node)
    return torch.stack([source, target])


def sorted_ptr(index: Tensor, num_segments: int) -> Tensor | None:
    """Where each segment begins and ends, shape [num_segments + 1], if ``index`` is ascending; otherwise None."""
    if bool((index.diff() < 0).any()):
        return None
    return torch.searchsorted(index.contiguous(), _arange(num_segments + 1, index))


class EdgeListGraph:
    """Directed edges between nodes, as PyTorch Geometric has them.

    Args:
        edge_index: shape [2, edges], rows (source, target), any order; never changed.
        num_nodes: number of nodes.

    Attributes:
        first, second: the unordered pairs that the edges need, each once, ``first <= second``; shape [pairs].
        ptr: where the edges of each target begin and end if they are sorted by target, otherwise None.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int) -> None:
        self.edge_index = edge_index
        self.num_nodes = num_nodes
        source, target = edge_index
        key = torch.minimum(source, target) * num_nodes + torch.maximum(source, target)
        unique, self._pair_of_edge = key.unique(return_inverse=True)
        self.first = unique.div(max(num_nodes, 1), rounding_mode="floor")
        self.second = unique % max(num_nodes, 1)
        self.ptr = sorted_ptr(target, num_nodes)

    def lift(self, pair_values: Tensor) -> Tensor:
        """Values of pairs, shape [channels, pairs], as values of directed edges, shape [edges, channels]."""
        index = self._pair_of_edge.unsqueeze(1).expand(-1, pair_values.size(0))
        return pair_values.t().gather(0, index)


@dataclass
class DenseBlock:
    """Complete graphs of similar size: G graphs, padded to the N nodes of the largest.

    Attributes:
        key_padding: True where a slot holds no node, shape [G, N].
        pair_of_edge: the pair, counted within the block, of each slot of the [G, N, N] block; 0 in padded slots.
        edge_of_pair: where the two directed edges of each pair stand in the flattened block, shape [2, pairs].
        pair_weight: 1/2 for the pair of a node with itself, whose two edges are one; 1 otherwise; shape [pairs].
    """

    key_padding: Tensor
    pair_of_edge: Tensor
    edge_of_pair: Tensor
    pair_weight: Tensor


@dataclass
class CompleteGraph:
    """The complete graph, self-edges included, of each graph of a batch, held as dense blocks of similar size.

    Build it with :meth:`from_ptr`.

    Attributes:
        num_nodes: number of nodes.
        first, second: the unordered pairs, each once, self-pairs included, block after block; shape [pairs].
        blocks: the dense blocks.
        node_of_slot: the node in each slot of the blocks laid end to end, -1 where a slot is padding.
        slot_of_node: its inverse.
    """

    num_nodes: int
    first: Tensor
    second: Tensor
    node_of_slot: Tensor
    slot_of_node: Tensor
    blocks: list[DenseBlock] = field(default_factory=list)

    @classmethod
    def from_ptr(cls, ptr: Tensor) -> CompleteGraph:
        """Complete graphs from where each graph's nodes begin and end, shape [graphs + 1]; made on its device."""
        sizes = ptr.diff()
        ordered, order = sizes.sort(stable=True)
        blocks, firsts, seconds, slots = [], [], [], []
        multiplicities = ordered.tolist()
        for begin, end in _size_classes(multiplicities):
            starts, size = ptr[:-1][order[begin:end]], multiplicities[end - 1]
            block, first, second, nodes = _dense_block(starts, ordered[begin:end], size)
            blocks.append(block)
            firsts.append(first)
            seconds.append(second)
            slots.append(nodes)
        empty = ptr.new_zeros(0)
        node_of_slot = torch.cat([empty, *slots])
        real = (node_of_slot >= 0).nonzero().squeeze(1)
        slot_of_node = torch.empty_like(real).scatter_(0, node_of_slot[real], real)
        first, second = torch.cat([empty, *firsts]), torch.cat([empty, *seconds])
        return cls(real.numel(), first, second, node_of_slot, slot_of_node, blocks)

    def lift(self, pair_values: Tensor) -> list[Tensor]:
        """Values of pairs, shape [channels, pairs], as blocks of edges [channels, G, N targets, N sources].

        Edges from padded slots get minus infinity, so that a softmax over the sources leaves them out. What stands in
        the rows of padded targets means nothing; :meth:`aggregate` drops it.
        """
        pieces = pair_values.split([block.pair_weight.numel() for block in self.blocks], dim=1)
        return [_Mirror.apply(piece, block) for piece, block in zip(pieces, self.blocks, strict=True)]

    def aggregate(self, weights: list[Tensor], values: Tensor) -> Tensor:
        r"""Weighted sum over the source nodes of each target, :math:`out_i = \sum_j \alpha_{ij} v_j`, per head.

        Args:
            weights: for each block, shape [heads, G, N targets, N sources].
            values: shape [nodes, heads * channels].

        Returns:
            Shape [nodes, heads * channels].
        """
        padded = _Regroup.apply(values, self.node_of_slot, self.slot_of_node)
        pieces = padded.split([block.key_padding.numel() for block in self.blocks])
        sums = []
        for block, alpha, value in zip(self.blocks, weights, pieces, strict=True):
            heads, (graphs, size) = alpha.size(0), block.key_padding.shape
            per_head = value.view(graphs, size, heads, -1).permute(2, 0, 1, 3)
            sums.append((alpha @ per_head).permute(1, 2, 0, 3).reshape(graphs * size, -1))
        return _Regroup.apply(torch.cat(sums), self.slot_of_node, self.node_of_slot) if sums else values


def _arange(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device)


def _size_classes(ordered: list[int]) -> list[tuple[int, int]]:
    """Cuts ascending sizes into at most MAX_SIZE_CLASSES runs of equally many graphs; empty graphs are in none."""
    begin = next((k for k, size in enumerate(ordered) if size > 0), len(ordered))
    graphs = len(ordered) - begin
    classes = min(MAX_SIZE_CLASSES, graphs)
    cuts = [begin + graphs * k // classes for k in range(classes + 1)] if classes else []
    return list(pairwise(cuts))


def _dense_block(start: Tensor, sizes: Tensor, size: int) -> tuple[DenseBlock, Tensor, Tensor, Tensor]:
    """One block of the graphs whose nodes begin at ``start``, its pairs (first, second) and the nodes of its slots."""
    graphs = sizes.numel()
    position = _arange(size, start)
    padding = position >= sizes.unsqueeze(1)
    slots = torch.where(padding, -1, start.unsqueeze(1) + position)
    upper = position.unsqueeze(1) <= position
    real_pair = upper & ~padding.unsqueeze(1) & ~padding.unsqueeze(2)
    edge = real_pair.flatten().nonzero().squeeze(1)
    graph, target, source = edge.div(size * size, rounding_mode="floor"), edge // size % size, edge % size
    mirrored = (graph * size + source) * size + target
    pair_of_edge = edge.new_zeros(graphs * size * size)
    pair = _arange(edge.numel(), start)
    pair_of_edge[edge] = pair
    pair_of_edge[mirrored] = pair
    pair_weight = torch.where(target == source, 0.5, 1.0)
    block = DenseBlock(padding, pair_of_edge, torch.stack([edge, mirrored]), pair_weight)
    return block, start[graph] + target, start[graph] + source, slots.flatten()


class _Mirror(torch.autograd.Function):
    """Spreads values of unordered pairs over a dense block; gathers in both directions, so nothing is scattered."""

    @staticmethod
    def forward(pair_values: Tensor, block: DenseBlock) -> Tensor:
        graphs, size = block.key_padding.shape
        edges = pair_values.index_select(1, block.pair_of_edge).view(-1, graphs, size, size)
        return edges.masked_fill_(block.key_padding.unsqueeze(1), -torch.inf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, DenseBlock], output: Tensor) -> None:
        ctx.block = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad, edge_of_pair = grad.flatten(1), ctx.block.edge_of_pair
        both = grad.index_select(1, edge_of_pair[0]) + grad.index_select(1, edge_of_pair[1])
        return both.mul_(ctx.block.pair_weight.to(grad)), None


class _Regroup(torch.autograd.Function):
    """Moves rows to new places; ``where`` has the old place of each new row (-1: a row of zeros), ``back`` the new
    place of each old row.
    """

    @staticmethod
    def forward(rows: Tensor, where: Tensor, back: Tensor) -> Tensor:
        return _take_rows(rows, where)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        _, back = ctx.saved_tensors
        return _take_rows(grad, back), None, None


def _take_rows(rows: Tensor, where: Tensor) -> Tensor:
    taken = rows.index_select(0, where.clamp(min=0))
    return taken.masked_fill_((where < 0).unsqueeze(1), 0)
