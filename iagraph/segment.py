r"""Sums and softmax over segments: the edges of a node, the particles of a jet.

Rows that share an index form a segment. Where the rows are sorted, ``ptr`` says where each segment begins and ends
(compressed sparse rows), and `torch-scatter <https://github.com/rusty1s/pytorch_scatter>`_ is used if it is installed;
otherwise kernels for sorted rows on a CPU (:mod:`iagraph.kernels`) or PyTorch's functions. Tests prove that all agree.
torch-scatter has no second derivatives. With kernels switched off, or under ``torch.compile``, ``ptr`` is ignored: the
code then depends neither on values nor on another library.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor

from iagraph.kernels import segment_sums
from iagraph.kernels.switch import fast

__all__ = ["segment_softmax", "segment_sum", "weighted_sum"]


def _import_torch_scatter() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("torch_scatter"), ""
    except ImportError:
        return None, "torch-scatter is not installed (pip install --no-build-isolation 'iagraph[scatter]')"
    except OSError as error:  # built for another version of torch: fall back and remember why
        return None, f"torch-scatter does not load, rebuild it for torch {torch.__version__}: {error}"


_torch_scatter, UNAVAILABLE = _import_torch_scatter()
"""``UNAVAILABLE``: why torch-scatter is not used, or an empty string."""


def ptr_of(sizes: Tensor) -> Tensor:
    """Where each segment begins and ends, shape [segments + 1], from the numbers of rows, shape [segments]."""
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0))


def count(index: Tensor, length: int) -> Tensor:
    """How often each number occurs, shape [length]; if ``length`` is 0, up to the largest number."""
    if index.device.type == "cpu" or not length:
        return torch.bincount(index, minlength=length)
    return index.new_zeros(length).index_add_(0, index, torch.ones_like(index))  # bincount makes the host wait


def segment_sum(src: Tensor, index: Tensor, num_segments: int, ptr: Tensor | None = None) -> Tensor:
    r"""Sum of the rows of each segment, :math:`out_i = \sum_{e:\, index_e = i} src_e`.

    Args:
        src: shape [rows, ...].
        index: the segment of each row, shape [rows].
        num_segments: number of segments; empty ones sum to zero.
        ptr: where each segment begins and ends if ``index`` is ascending, shape [num_segments + 1].

    Returns:
        Shape [num_segments, ...].
    """
    if not fast():
        ptr = None
    if ptr is not None and _torch_scatter is not None:
        return _torch_scatter.segment_csr(src, ptr, reduce="sum")
    if ptr is not None and src.device.type == "cpu" and src.is_floating_point():
        return segment_sums.sorted_sum(src, index, ptr)
    return src.new_zeros(num_segments, *src.shape[1:]).scatter_add(0, _expand(index, src), src)


def segment_softmax(src: Tensor, index: Tensor, num_segments: int, ptr: Tensor | None = None) -> Tensor:
    r"""Softmax over the rows of each segment, :math:`out_e = e^{src_e} / \sum_{f:\, index_f = index_e} e^{src_f}`.

    The maximum of each segment is subtracted first to avoid overflow. On a CPU with ``ptr``, where this would take more
    than half of the time, it is done only if the sums overflow or lose precision.

    Args:
        src: shape [rows, channels].
        index: the segment of each row, shape [rows].
        num_segments: number of segments.
        ptr: where each segment begins and ends if ``index`` is ascending, shape [num_segments + 1].

    Returns:
        Shape [rows, channels]; each non-empty segment sums to 1 in each channel.
    """
    if not fast():
        ptr = None
    if ptr is not None and src.device.type == "cpu" and src.dtype in (torch.float32, torch.float64) and src.numel():
        exponential = src.exp()
        total = segment_sum(exponential, index, num_segments, ptr)
        empty = (ptr[1:] == ptr[:-1]).view(-1, *(1 for _ in src.shape[1:]))
        smallest, largest = total.detach().masked_fill(empty, 1.0).aminmax()
        precise = torch.finfo(src.dtype).tiny / torch.finfo(src.dtype).eps
        if precise <= smallest and largest <= 1 / precise:  # all relevant weights and their gradients are precise
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
    r"""Weighted sums over incoming edges of each node, :math:`out_i = \sum_j \alpha_{ij} v_j`, per head.

    Args:
        weights: shape [edges, heads].
        values: shape [nodes, heads * channels].
        source: source node of each edge, shape [edges].
        target: target node of each edge, shape [edges].
        num_targets: number of target nodes.
        ptr: where the edges of each target begin and end if ``target`` is ascending, shape [num_targets + 1].

    Returns:
        Shape [num_targets, heads * channels].
    """
    if not fast():
        ptr = None
    heads = weights.size(1)
    full = weights.dtype == values.dtype and values.dtype in (torch.float32, torch.float64)
    if ptr is not None and full and values.device.type == "cpu" and values.size(1) >= segment_sums.WIDE * heads:
        return segment_sums.weighted_sum(weights, values, source, target, ptr)
    of_source = segment_sums.by_channel(values, heads).index_select(0, source)
    messages = segment_sums.repeated(weights, values) * of_source
    return segment_sums.by_head(segment_sum(messages, target, num_targets, ptr), heads)


def _expand(index: Tensor, src: Tensor) -> Tensor:
    return index.view(-1, *(1 for _ in src.shape[1:])).expand_as(src)
