r"""Sums and softmax over segments: the edges of a node, the particles of a jet.

Rows that share an index form a segment. Where the rows are sorted, ``ptr`` says where each segment begins and ends
(compressed sparse rows), and `torch-scatter <https://github.com/rusty1s/pytorch_scatter>`_ is used if it is
installed; PyTorch's own scatter functions otherwise. Tests prove both equal.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor


def _import_torch_scatter() -> tuple[ModuleType | None, str]:
    try:
        return importlib.import_module("torch_scatter"), ""
    except ImportError:
        return None, "torch-scatter is not installed (pip install --no-build-isolation 'iagraph[scatter]')"
    except OSError as error:  # built for another version of torch: fall back instead of failing, and remember why
        return None, f"torch-scatter does not load, rebuild it for torch {torch.__version__}: {error}"


_torch_scatter, UNAVAILABLE = _import_torch_scatter()
"""``UNAVAILABLE``: why torch-scatter is not in use, or an empty string."""


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
    if ptr is not None and _torch_scatter is not None:
        return _torch_scatter.segment_csr(src, ptr, reduce="sum")
    return src.new_zeros(num_segments, *src.shape[1:]).scatter_add(0, _expand(index, src), src)


def segment_softmax(src: Tensor, index: Tensor, num_segments: int, ptr: Tensor | None = None) -> Tensor:
    r"""Softmax over the rows of each segment, :math:`out_e = e^{src_e} / \sum_{f:\, index_f = index_e} e^{src_f}`.

    The largest value of each segment is subtracted first, so that no score overflows.

    Args:
        src: shape [rows, channels].
        index: the segment of each row, shape [rows].
        num_segments: number of segments.
        ptr: where each segment begins and ends if ``index`` is ascending, shape [num_segments + 1].

    Returns:
        Shape [rows, channels]; each segment that has rows sums to 1 in each channel.
    """
    expanded = _expand(index, src)
    with torch.no_grad():
        if ptr is not None and _torch_scatter is not None:
            largest = _torch_scatter.segment_csr(src, ptr, reduce="max")
        else:
            empty = src.new_full((num_segments, *src.shape[1:]), -torch.inf)
            largest = empty.scatter_reduce(0, expanded, src, "amax", include_self=False)
        shift = largest.index_select(0, index)
    exponential = (src - shift).exp()
    total = segment_sum(exponential, index, num_segments, ptr)
    return exponential * total.reciprocal().index_select(0, index)


def _expand(index: Tensor, src: Tensor) -> Tensor:
    return index.view(-1, *(1 for _ in src.shape[1:])).expand_as(src)
