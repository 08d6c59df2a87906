"""Linear maps whose input size may not be known yet."""

from __future__ import annotations

from torch import nn
from torch_geometric.nn.dense.linear import Linear


def make_linear(in_channels: int, out_channels: int, bias: bool = False) -> nn.Linear | Linear:
    """A linear map; with ``in_channels`` -1, PyTorch Geometric's, which takes its size from its first input."""
    make = Linear if in_channels == -1 else nn.Linear
    return make(in_channels, out_channels, bias=bias)


def both_sizes(in_channels: int | tuple[int, int]) -> tuple[int, int]:
    """Sizes of the vectors of sources and of targets."""
    return (in_channels, in_channels) if isinstance(in_channels, int) else in_channels
