"""Attention in dense blocks of complete graphs: weighted sums whose tables of weights never leave a CPU's cache.

Scores are given once per unordered pair of nodes and appear twice in a table [graphs, targets, sources]. A kernel
expands as many maps at a time as fit into cache, and recomputes them in the backward pass: memory grows only with
the number of pairs, and reading stored tables back would take as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iagraph.kernels.switch import differentiable, fast

LOG2_E = math.log2(math.e)
"""For exponentials computed as powers of two, in a third of the time."""

EDGES_IN_CACHE = 2**19
"""Number of edges times maps whose softmax each thread of a CPU computes at once."""

# The functions below have no setup_context: with one, PyTorch would inspect a signature in each call, for 50 us.


class BlockPairs(NamedTuple):
    """The unordered pairs of the nodes of a dense block, each once, self-pairs included.

    Attributes:
        first, second: the two nodes, shape [pairs].
        pair_of_edge: the pair of each entry of the flattened [G, N, N] table; it is the number of pairs for edges
            from padding, and any pair for edges from nodes to padding.
        edge_of_pair: indices in the flattened table of the two directed edges of each pair, each of shape [pairs].
        is_between: 0 for self-pairs, whose two edges are the same; 1 otherwise; shape [pairs].
        shape: G and N.
    """

    first: Tensor
    second: Tensor
    pair_of_edge: Tensor
    edge_of_pair: tuple[Tensor, Tensor]
    is_between: Tensor
    shape: tuple[int, int]


# --- tables ----------------------------------------------------------------------------------------------------------


def table(pair_values: Tensor, pairs: BlockPairs) -> Tensor:
    """Values of unordered pairs as a table of directed edges, each value at both edges of its pair.

    Args:
        pair_values: shape [maps, pairs].
        pairs: the pairs of the block.

    Returns:
        Shape [maps, G, N targets, N sources]. Edges from padding get minus infinity, so that a softmax over the sources
        leaves them out; rows of padded targets are meaningless.
    """
    return _Table.apply(pair_values, pairs) if fast() else _table(pair_values, pairs)


class _Table(torch.autograd.Function):
    """:func:`_table` with a gradient that gathers instead of scattering."""

    @staticmethod
    def forward(ctx: Any, pair_values: Tensor, pairs: BlockPairs) -> Tensor:
        ctx.pairs = pairs
        return _table(pair_values, pairs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _fold(grad, ctx.pairs), None


def _table(pair_values: Tensor, pairs: BlockPairs) -> Tensor:
    # An extra column, for edges from padding, takes a tenth of the time of a later masked_fill.
    return _spread(torch.nn.functional.pad(pair_values, (0, 1), value=-torch.inf), pairs)


def _spread(padded: Tensor, pairs: BlockPairs) -> Tensor:
    """Values of pairs, with an extra column for edges from padding, as a table."""
    graphs, size = pairs.shape
    return padded.index_select(1, pairs.pair_of_edge).view(padded.size(0), graphs, size, size)


def _fold(grad: Tensor, pairs: BlockPairs) -> Tensor:
    """The sum over the two edges of each pair: the gradient of :func:`table`."""
    grad = grad.flatten(1)
    first, second = (grad.index_select(1, edge) for edge in pairs.edge_of_pair)
    return torch.addcmul(first, second, pairs.is_between.to(grad))


# --- sums weighted by a softmax --------------------------------------------------------------------------------------


def softmax_sum(pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
    r"""Sums over the sources, weighted by the softmax of their scores,
    :math:`\sum_j \operatorname{softmax}_j(s_{ij}) v_j`.

    Args:
        pair_scores: shape [maps, pairs].
        values: shape [maps, G, channels, N sources].
        pairs: the pairs of the block.

    Returns:
        Shape [maps, G, channels, N targets].
    """
    if not fast():
        return softmax_sum_reference(pair_scores, values, pairs)
    return _SoftmaxSum.apply(pair_scores, values, pairs)


def softmax_sum_reference(pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
    """:func:`softmax_sum` in plain PyTorch."""
    return values @ _softmax(pair_scores, pairs).to(values).mT


class _SoftmaxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
        ctx.save_for_backward(pair_scores, values)
        ctx.pairs = pairs
        parts = _in_cache(pairs, pair_scores, values)
        with torch.autocast(values.device.type, enabled=False):  # as in the backward pass
            return joined([value @ _softmax(score, pairs).to(value).mT for score, value in parts])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            return _again(softmax_sum_reference, ctx, grad)
        grad_scores, grad_values = [], []
        for score, value, part in _in_cache(ctx.pairs, *ctx.saved_tensors, grad.contiguous()):
            weights = _softmax(score, ctx.pairs)
            grad_values.append(part @ weights.to(part))
            grad_edges = torch._softmax_backward_data((part.mT @ value).to(weights), weights, -1, weights.dtype)
            grad_scores.append(_fold(grad_edges, ctx.pairs).to(score))
        return joined(grad_scores), joined(grad_values), None


# --- sums weighted by exponentials -----------------------------------------------------------------------------------


def exponential_sum(pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
    r"""Sums over the sources, weighted by the exponentials of their scores,
    :math:`\sum_j e^{s_{ij} - \max s} v_j`.

    The maximum over a whole map cancels in quotients of such sums, so the gradient treats it as constant. Both edges of
    a pair share one exponential.

    Args:
        pair_scores: shape [maps, pairs], at least one pair.
        values: shape [maps, G, channels, N sources], zero in padding.
        pairs: the pairs of the block.

    Returns:
        Shape [maps, G, channels, N targets]. Columns of padded targets are meaningless.
    """
    if not fast():
        return exponential_sum_reference(pair_scores, values, pairs)
    return _ExponentialSum.apply(pair_scores, values, pairs)


def exponential_sum_reference(pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
    """:func:`exponential_sum` in plain PyTorch."""
    return values @ _table((pair_scores - pair_scores.detach().amax(1, keepdim=True)).exp(), pairs).clamp(min=0)


class _ExponentialSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pair_scores: Tensor, values: Tensor, pairs: BlockPairs) -> Tensor:
        ctx.save_for_backward(pair_scores, values)
        ctx.pairs = pairs
        parts = _in_cache(pairs, pair_scores, values)
        return joined([value @ _spread(_exponentials(score), pairs) for score, value in parts])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        if torch.is_grad_enabled():
            return _again(exponential_sum_reference, ctx, grad)
        grad_scores, grad_values = [], []
        for score, value, part in _in_cache(ctx.pairs, *ctx.saved_tensors, grad.contiguous()):
            weights = _exponentials(score)
            grad_values.append(part @ _spread(weights, ctx.pairs))
            grad_scores.append(_fold(value.mT @ part, ctx.pairs).mul_(weights[:, :-1]))
        return joined(grad_scores), joined(grad_values), None


def _exponentials(pair_scores: Tensor) -> Tensor:
    """Exponentials of scores relative to the maximum of their map, and a column of ones for edges from padding."""
    maps, pairs = pair_scores.shape
    padded = pair_scores.new_zeros(maps, pairs + 1)
    torch.sub(pair_scores, pair_scores.amax(1, keepdim=True), out=padded[:, :pairs])
    return padded.mul_(LOG2_E).exp2_()


def _softmax(pair_scores: Tensor, pairs: BlockPairs) -> Tensor:
    """Weights of the edges of a block, [maps, G, N targets, N sources], at least in float32."""
    return _table(pair_scores, pairs).softmax(-1, dtype=torch.promote_types(pair_scores.dtype, torch.float32))


def _again(reference: Callable[..., Tensor], ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    """Differentiable gradients, from the reference."""
    of_scores, of_values = differentiable(lambda *tensors: reference(*tensors, ctx.pairs), ctx.saved_tensors, [grad])
    return of_scores, of_values, None


def _in_cache(pairs: BlockPairs, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors split into parts along their maps, on a CPU as many maps at a time as fit into cache."""
    entries = max(pairs.pair_of_edge.numel(), 1)
    on_cpu = tensors[0].device.type == "cpu"
    at_once = max(EDGES_IN_CACHE * torch.get_num_threads() // entries if on_cpu else len(tensors[0]), 1)
    return zip(*(tensor.split(at_once) for tensor in tensors), strict=True)


def joined(parts: list[Tensor]) -> Tensor:
    """Parts, at least one, as one tensor; a single one is not copied."""
    return torch.cat(parts) if len(parts) > 1 else parts[0]


# --- rows to new places ----------------------------------------------------------------------------------------------


def regroup(rows: Tensor, where: Tensor, back: Tensor) -> Tensor:
    """Moves rows to new places.

    Args:
        rows: shape [rows, channels].
        where: the old place of each new row; the number of old rows for zeros.
        back: the new place of each old row.

    Returns:
        Shape [new rows, channels].
    """
    return _Regroup.apply(rows, where, back) if fast() else _take_rows(rows, where)


class _Regroup(torch.autograd.Function):
    """:func:`_take_rows` with a gradient that gathers instead of scattering."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, where: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _take_rows(rows, where)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return _take_rows(grad, back), None, None


def _take_rows(rows: Tensor, where: Tensor) -> Tensor:
    if where.numel() <= rows.size(0):  # every old row is taken, so without extra new rows none is zero
        return rows.index_select(0, where)
    with_zeros = torch.nn.functional.pad(rows, (0, 0, 0, 1))  # in a third of the time of a masked_fill
    return with_zeros.index_select(0, where)
