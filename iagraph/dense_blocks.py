"""Complete graphs of similar size as one dense block, and the products of values with softmax maps over it.

What is known once per pair of nodes is spread over the block, [graphs, targets, sources], for as many maps at a time as
stay in a CPU's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

LOG2_E = math.log2(math.e)
"""Exponentials are made as powers of two, in a third of the time."""

EDGES_IN_CACHE = 2**19
"""Edges, times maps, whose softmax a CPU takes at once."""

# The functions below have no setup_context: with one, PyTorch inspects a signature in each call, 50 us.


class BlockPairs(NamedTuple):
    """The unordered pairs of the nodes of a dense block, each once, a node with itself included.

    Attributes:
        first, second: the two nodes, shape [pairs].
        pair_of_edge: the pair of each slot of the flattened [G, N, N] block. Edges from padding, and those that are
            not part of the graph, have the number of pairs instead, those from nodes to padding that number plus 1.
        edge_of_pair: where the two directed edges of each pair stand in the flattened block, shape [2, pairs].
        weight: 1/2 for the pair of a node with itself, whose two edges are one; 1 otherwise; shape [pairs].
    """

    first: Tensor
    second: Tensor
    pair_of_edge: Tensor
    edge_of_pair: Tensor
    weight: Tensor


@dataclass
class DenseBlock:
    """Complete graphs of similar size: G graphs, padded to the N nodes of the largest.

    Attributes:
        nodes: the node in each slot, -1 where it is padding; shape [G, N].
        chosen: True where the pair of two slots, the first no later than the second, is part of the graph, shape
            [G, N, N]; those of a node with itself must be. None if all pairs of nodes are.
    """

    nodes: Tensor
    chosen: Tensor | None = None

    @cached_property
    def padding(self) -> Tensor:
        """True where a slot holds no node, shape [G, N]."""
        return self.nodes < 0

    @cached_property
    def pairs(self) -> BlockPairs:
        """The pairs of its nodes; only models that look at pairs need them."""
        size = self.nodes.size(1)
        position = torch.arange(size, device=self.nodes.device)
        pairs = self.chosen
        if pairs is None:  # the target is no later than the source, so it is real, too
            pairs = (position.unsqueeze(1) <= position) & ~self.padding.unsqueeze(1)
        graph, target, source = pairs.nonzero(as_tuple=True)
        slots = [graph * size + target, graph * size + source]
        edge, mirrored = slots[0] * size + source, slots[1] * size + target
        # A row without any edge would be no numbers.
        to_padding_alone = self.padding.unsqueeze(2) & ~self.padding.unsqueeze(1)
        pair_of_edge = torch.where(to_padding_alone, edge.numel() + 1, edge.numel()).flatten()
        pair = torch.arange(edge.numel(), device=edge.device)
        pair_of_edge.scatter_(0, edge, pair).scatter_(0, mirrored, pair)
        weight = torch.where(target == source, 0.5, 1.0)
        first, second = (self.nodes.flatten().index_select(0, slot) for slot in slots)
        return BlockPairs(first, second, pair_of_edge, torch.stack([edge, mirrored]), weight)


@dataclass
class EdgeScores:
    """Scores of the directed edges of a dense block, held as those of its pairs.

    Attributes:
        of_pairs: shape [maps, pairs].
        block: the block.
    """

    of_pairs: Tensor
    block: DenseBlock

    @cached_property
    def dense(self) -> Tensor:
        """Shape [maps, G, N targets, N sources].

        Edges from padded slots get minus infinity, so that a softmax over the sources leaves them out. What stands in
        the rows of padded targets means nothing.
        """
        return _Mirror.apply(self.of_pairs, self.block)


def _mirror(pair_values: Tensor, block: DenseBlock) -> Tensor:
    """Spreads values of unordered pairs, shape [channels, pairs], over a dense block, [channels, G, N, N]."""
    # Two more columns, for edges from and to padding, take a tenth of the time of a masked_fill afterwards.
    padding = pair_values.new_tensor([-torch.inf, 0.0]).expand(pair_values.size(0), 2)
    return _spread(torch.cat([pair_values, padding], dim=1), block)


def _spread(padded: Tensor, block: DenseBlock) -> Tensor:
    """Values of pairs, and in two more columns those of edges from and to padding, over a dense block."""
    graphs, size = block.nodes.shape
    return padded.index_select(1, block.pairs.pair_of_edge).view(padded.size(0), graphs, size, size)


def _fold(grad: Tensor, block: DenseBlock) -> Tensor:
    """The sum over the two edges of each pair: the gradient of :func:`_mirror`, without scattering."""
    grad, edge_of_pair = grad.flatten(1), block.pairs.edge_of_pair
    both = grad.index_select(1, edge_of_pair[0]) + grad.index_select(1, edge_of_pair[1])
    return both.mul_(block.pairs.weight.to(grad))


class _Mirror(torch.autograd.Function):
    """:func:`_mirror` with gradient."""

    @staticmethod
    def forward(ctx: Any, pair_values: Tensor, block: DenseBlock) -> Tensor:
        ctx.block = block
        return _mirror(pair_values, block)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _fold(grad, ctx.block), None


def softmax_sum(pair_scores: Tensor, values: Tensor, block: DenseBlock) -> Tensor:
    """Values of the sources, weighed by the softmax of scores over the sources and summed.

    On a CPU some maps at a time, as many as stay in cache. The weights are made again for the gradient: memory grows
    with the pairs alone, in no more time than it takes to fetch them.

    Args:
        pair_scores: shape [maps, pairs].
        values: shape [maps, G, channels, N sources].
        block: the block.

    Returns:
        Shape [maps, G, channels, N targets].
    """
    return _SoftmaxSum.apply(pair_scores, values, block)


class _SoftmaxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair_scores: Tensor, values: Tensor, block: DenseBlock) -> Tensor:
        ctx.save_for_backward(pair_scores, values)
        ctx.block = block
        parts = _in_cache(block, pair_scores, values)
        with torch.autocast(values.device.type, enabled=False):  # as it is for the gradients
            return _joined([value @ _softmax(score, block).to(value).mT for score, value in parts])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_scores, grad_values = [], []
        for score, value, part in _in_cache(ctx.block, *ctx.saved_tensors, grad):
            weights = _softmax(score, ctx.block)
            grad_values.append(part @ weights.to(part))
            grad_edges = torch._softmax_backward_data((part.mT @ value).to(weights), weights, -1, weights.dtype)
            grad_scores.append(_fold(grad_edges, ctx.block).to(score))
        return _joined(grad_scores), _joined(grad_values), None


def exponential_sum(pair_scores: Tensor, values: Tensor, block: DenseBlock) -> Tensor:
    """Values of the sources, weighed by the exponentials of scores and summed.

    Scores are taken relative to the largest of their map, which cancels in quotients of such sums; the gradient counts
    on that. There is one exponential for the two edges of a pair. Otherwise as :func:`softmax_sum`.

    Args:
        pair_scores: shape [maps, pairs], at least one pair.
        values: shape [maps, G, channels, N sources], zero where a slot is padding.
        block: the block.

    Returns:
        Shape [maps, G, channels, N targets]. What stands in the columns of padded targets means nothing.
    """
    return _ExponentialSum.apply(pair_scores, values, block)


class _ExponentialSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair_scores: Tensor, values: Tensor, block: DenseBlock) -> Tensor:
        ctx.save_for_backward(pair_scores, values)
        ctx.block = block
        parts = _in_cache(block, pair_scores, values)
        return _joined([value @ _spread(_exponentials(score), block) for score, value in parts])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        grad_scores, grad_values = [], []
        for score, value, part in _in_cache(ctx.block, *ctx.saved_tensors, grad):
            weights = _exponentials(score)
            grad_values.append(part @ _spread(weights, ctx.block))
            grad_scores.append(_fold(value.mT @ part, ctx.block).mul_(weights[:, :-2]))
        return _joined(grad_scores), _joined(grad_values), None


def _exponentials(pair_scores: Tensor) -> Tensor:
    """Exponentials of scores relative to the largest of their map, and two columns of ones for edges from and to
    padding.
    """
    maps, pairs = pair_scores.shape
    padded = pair_scores.new_zeros(maps, pairs + 2)
    torch.sub(pair_scores, pair_scores.amax(1, keepdim=True), out=padded[:, :pairs])
    return padded.mul_(LOG2_E).exp2_()


def _softmax(pair_scores: Tensor, block: DenseBlock) -> Tensor:
    """Weights of the edges of a block, [maps, G, N targets, N sources], in float32 if not in float64."""
    return _mirror(pair_scores, block).softmax(-1, dtype=torch.promote_types(pair_scores.dtype, torch.float32))


def _in_cache(block: DenseBlock, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Some maps at a time, on a CPU as many as stay in cache."""
    slots = max(block.pairs.pair_of_edge.numel(), 1)
    at_once = max(EDGES_IN_CACHE // slots, 1) if tensors[0].device.type == "cpu" else max(len(tensors[0]), 1)
    return zip(*(tensor.split(at_once) for tensor in tensors), strict=True)


def _joined(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def regroup(rows: Tensor, where: Tensor, back: Tensor) -> Tensor:
    """Moves rows to new places.

    Args:
        rows: shape [rows, channels].
        where: the old place of each new row; -1 for a row of zeros.
        back: the new place of each old row.

    Returns:
        Shape [new rows, channels].
    """
    return _Regroup.apply(rows, where, back)


class _Regroup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, where: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _take_rows(rows, where)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return _take_rows(grad, back), None, None


def _take_rows(rows: Tensor, where: Tensor) -> Tensor:
    if where.numel() <= rows.size(0):  # no more new rows than old ones, and each old one is taken: none is of zeros
        return rows.index_select(0, where)
    with_zeros = torch.nn.functional.pad(rows, (0, 0, 0, 1))  # what -1 takes, in a third of the time of a masked_fill
    return with_zeros.index_select(0, where.remainder(rows.size(0) + 1))
