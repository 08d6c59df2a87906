r"""Sums and softmax over segments: the edges of a node, the particles of a jet.

Rows that share an index form a segment. Where the rows are sorted, ``ptr`` says where each segment begins and ends
(compressed sparse rows), and `torch-scatter <https://github.com/rusty1s/pytorch_scatter>`_ is used if it is
installed; PyTorch's own functions otherwise. Tests prove both equal. torch-scatter has no second gradients. While
``torch.compile`` traces, ``ptr`` is left aside: the way without it depends on no values and on no other library.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag


def _import_torch_scatter() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("torch_scatter"), ""
    except ImportError:
        return None, "torch-scatter is not installed (pip install --no-build-isolation 'iagraph[scatter]')"
    except OSError as error:  # built for another version of torch: fall back instead of failing, and remember why
        return None, f"torch-scatter does not load, rebuild it for torch {torch.__version__}: {error}"


_torch_scatter, UNAVAILABLE = _import_torch_scatter()
"""``UNAVAILABLE``: why torch-scatter is not in use, or an empty string."""

WIDE = 4
"""Channels of a head from which on its weighted sums on a CPU take less time as sums of embeddings."""


def segment_sum(src: Tensor, index: Tensor, num_segments: int, ptr: Tensor | None = None) -> Tensor:
    r"""Sum of the rows of each segment, :math:`out_i = \sum_{e:\, index_e = i} src_e`.

    Args:
        src: shape [rows, ...].
        index: the segment of each row, shape [rows].
        num_segments: number of segments; one without rows sums to zero.
        ptr: where each segment begins and ends if ``index`` is ascending, shape [num_segments + 1].

    Returns:
        Shape [num_segments, ...].
    """
    if torch.compiler.is_compiling():
        ptr = None
    if ptr is not None and _torch_scatter is not None:
        return _torch_scatter.segment_csr(src, ptr, reduce="sum")
    if ptr is not None and src.device.type == "cpu" and src.is_floating_point():
        return _SortedSum.apply(src, index, ptr)
    return src.new_zeros(num_segments, *src.shape[1:]).scatter_add(0, _expand(index, src), src)


def segment_softmax(src: Tensor, index: Tensor, num_segments: int, ptr: Tensor | None = None) -> Tensor:
    r"""Softmax over the rows of each segment, :math:`out_e = e^{src_e} / \sum_{f:\, index_f = index_e} e^{src_f}`.

    The largest value of each segment is subtracted first, so that no score overflows. On a CPU this takes more than
    half of the time, and is only done where the sums show that it must be.

    Args:
        src: shape [rows, channels].
        index: the segment of each row, shape [rows].
        num_segments: number of segments.
        ptr: where each segment begins and ends if ``index`` is ascending, shape [num_segments + 1].

    Returns:
        Shape [rows, channels]; each segment that has rows sums to 1 in each channel.
    """
    if torch.compiler.is_compiling():
        ptr = None
    if ptr is not None and src.device.type == "cpu" and src.dtype in (torch.float32, torch.float64) and src.numel():
        exponential = src.exp()
        total = segment_sum(exponential, index, num_segments, ptr)
        smallest, largest = total.detach().aminmax()
        limits = torch.finfo(src.dtype)
        if limits.tiny / limits.eps <= smallest and largest <= limits.max:  # all weights that count are precise
            return exponential / total.index_select(0, index)
    with torch.no_grad():
        if ptr is not None and _torch_scatter is not None:
            shift = _torch_scatter.segment_csr(src, ptr, reduce="max")
        else:
            empty = src.new_full((num_segments, *src.shape[1:]), -torch.inf)
            shift = empty.scatter_reduce(0, _expand(index, src), src, "amax", include_self=False)
        shift = shift.index_select(0, index)
    exponential = (src - shift).exp()
    total = segment_sum(exponential, index, num_segments, ptr)
    return exponential * total.reciprocal().index_select(0, index)


def weighted_sum(
    weights: Tensor, values: Tensor, source: Tensor, target: Tensor, num_targets: int, ptr: Tensor | None = None
) -> Tensor:
    r"""Weighted sums over the edges that arrive at each node, :math:`out_i = \sum_j \alpha_{ij} v_j`, per head.

    Args:
        weights: shape [edges, heads].
        values: shape [nodes, heads * channels].
        source: where each edge comes from, shape [edges].
        target: where it arrives, shape [edges].
        num_targets: number of nodes at which edges may arrive.
        ptr: where the edges of each target begin and end if ``target`` is ascending, shape [num_targets + 1].

    Returns:
        Shape [num_targets, heads * channels].
    """
    if torch.compiler.is_compiling():
        ptr = None
    heads = weights.size(1)
    full = weights.dtype == values.dtype and values.dtype in (torch.float32, torch.float64)
    if ptr is not None and full and values.device.type == "cpu" and values.size(1) >= WIDE * heads:
        return _WeightedSum.apply(weights, values, source, target, ptr)
    messages = _repeated(weights, values) * _by_channel(values, heads).index_select(0, source)
    return _by_head(segment_sum(messages, target, num_targets, ptr), heads)


# A head may have but two channels, and products along so short an axis are slow on a CPU. So all first channels come
# first, then all second ones, and the weights are laid out as often: a third of the time.


def _by_channel(values: Tensor, heads: int) -> Tensor:
    """Vectors [rows, heads * channels] as [rows, channels * heads]."""
    return values.unflatten(1, (heads, -1)).transpose(1, 2).flatten(1)


def _by_head(values: Tensor, heads: int) -> Tensor:
    """The inverse."""
    return values.unflatten(1, (-1, heads)).transpose(1, 2).flatten(1)


def _repeated(weights: Tensor, values: Tensor) -> Tensor:
    """Weights of heads for each channel, shape [edges, channels * heads]."""
    return torch.cat([weights] * (values.size(1) // weights.size(1)), dim=1)


class _WeightedSum(torch.autograd.Function):
    """Weighted sums over sorted edges, head by head, without a list of what is sent along each edge."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, source: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(weights, values, source, target)
        by_head = values.unflatten(1, (weights.size(1), -1)).transpose(0, 1).contiguous()
        sums = [
            embedding_bag(source, value, ptr, mode="sum", per_sample_weights=weight, include_last_offset=True)
            for weight, value in zip(weights.t().contiguous(), by_head, strict=True)
        ]
        return torch.cat(sums, dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, values, source, target = ctx.saved_tensors
        heads = weights.size(1)
        arrived = _by_channel(grad, heads).index_select(0, target)
        products = arrived * _by_channel(values, heads).index_select(0, source)
        grad_weights = torch.stack(products.split(heads, dim=1)).sum(0)
        grad_values = segment_sum(_repeated(weights, values) * arrived, source, values.size(0))
        return grad_weights, _by_head(grad_values, heads), None, None, None


class _SortedSum(torch.autograd.Function):
    """Sums of sorted rows, as sums of embeddings: a fifth of the time of ``scatter_add``, with the same result."""

    @staticmethod
    def forward(ctx: Any, src: Tensor, index: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        row = torch.arange(src.size(0))
        sums = embedding_bag(row, src.unsqueeze(-1).flatten(1), ptr, mode="sum", include_last_offset=True)
        return sums.view(-1, *src.shape[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grad.index_select(0, index), None, None


def _expand(index: Tensor, src: Tensor) -> Tensor:
    return index.view(-1, *(1 for _ in src.shape[1:])).expand_as(src)
