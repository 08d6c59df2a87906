"""Encoders of particles and of pairs of particles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from iagraph.kernels.linear import ThinLinear


class Standardize(nn.Module):
    r"""Fixed affine scaling with a clip, :math:`x \mapsto \mathrm{clip}((x - c) / w, \pm 5)`.

    The constants are part of the model (and of its checkpoints), not fitted, as in ParT (arXiv 2202.03772). Each is
    stored as the sum of two float32 numbers, so that a model converted to float64 has them with a precision of 1e-14.

    Args:
        scaling: centre c and width w of each feature.
    """

    CLIP = 5.0
    center: Tensor
    width: Tensor

    def __init__(self, scaling: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        exact = torch.tensor(scaling, dtype=torch.float64).t()
        rounded = exact.float()
        center, width = torch.stack([rounded, (exact - rounded).float()], dim=1)
        self.register_buffer("center", center.clone())
        self.register_buffer("width", width.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Scales features of shape [..., features]."""
        return ((x - self.center.sum(0)) / self.width.sum(0)).clamp(-self.CLIP, self.CLIP)

    def extra_repr(self) -> str:
        """The number of features."""
        return f"{self.center.size(1)}"


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm, computed in the precision of its weights, as autocast does for ``nn.LayerNorm`` only."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalised vectors of shape [..., channels]."""
        return super().forward(x.to(self.weight.dtype))


class ParticleEncoder(nn.Sequential):
    r"""Node features to node vectors: linear maps, each followed by GELU, then RMSNorm (arXiv 2505.03258).

    Args:
        in_channels: number of node features.
        hidden_channels: widths of the hidden layers; 256 and 128 in the paper.
        out_channels: width of the node vectors.

    Shapes:
        - input: node features [nodes, in_channels]
        - output: node vectors [nodes, out_channels]
    """

    def __init__(self, in_channels: int, hidden_channels: Sequence[int], out_channels: int) -> None:
        super().__init__(*_mlp(in_channels, hidden_channels, out_channels), RMSNorm(out_channels))


class PairEncoder(nn.Sequential):
    r"""Pair features to pair vectors: linear maps, each followed by GELU (arXiv 2505.03258).

    The output is the interaction matrix :math:`I_{ij}` of the paper. The features are symmetric in i and j, so it
    is evaluated once per unordered pair and shared by all layers. The last feature flags self-pairs.

    Args:
        in_channels: number of pair features, including the flag.
        hidden_channels: widths of the hidden layers; 256 and 128 in the paper.
        out_channels: width of the pair vectors; 64 in the paper.

    Shapes:
        - input: pair features [pairs, in_channels]
        - output: pair vectors [pairs, out_channels]
    """

    def __init__(self, in_channels: int, hidden_channels: Sequence[int], out_channels: int) -> None:
        super().__init__(*_mlp(in_channels, hidden_channels, out_channels))


class BatchNorm(nn.BatchNorm1d):
    """:class:`torch.nn.BatchNorm1d` that accepts fewer than two rows in training: unless ``real`` is given, it then
    normalises by the running statistics and leaves them unchanged.
    """

    def forward(self, input: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalises vectors.

        Args:
            input: shape [rows, features].
            real: True for rows that count in the statistics, False for padding, shape [rows]; None if all count.
        """
        if self.training and real is not None:
            return self._normalised(input, real)
        if self.training and input.size(0) < 2:
            fixed = (self.running_mean, self.running_var, self.weight, self.bias)
            return torch.nn.functional.batch_norm(input, *fixed, training=False, eps=self.eps)
        return super().forward(input)

    def _normalised(self, input: Tensor, real: Tensor) -> Tensor:
        """Normalises by the statistics of the real rows and updates the running ones, without waiting for the GPU; with
        fewer than two real rows, by the running ones.
        """
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        rows = real.sum()
        enough, counts = rows > 1, real.unsqueeze(1)
        mean = torch.where(enough, input.where(counts, 0.0).sum(0) / rows.clamp(min=1), self.running_mean)
        centred = input - mean
        variance = centred.where(counts, 0.0).square().sum(0) / rows.clamp(min=1)
        variance = torch.where(enough, variance, self.running_var)
        with torch.no_grad():
            self.num_batches_tracked += enough
            momentum = self.momentum * enough.to(self.running_mean)
            unbiased = variance * rows / (rows - 1).clamp(min=1)
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_(unbiased.to(self.running_var), momentum)
        return centred * (variance + self.eps).rsqrt() * self.weight + self.bias

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of the norm with its running statistics, each of shape [features]."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return scale, self.bias - self.running_mean * scale


def through(modules: Iterable[nn.Module], x: Tensor, real: Tensor | None) -> Tensor:
    """Passes vectors through modules in turn; batch norms take their statistics from ``real`` rows; None: all."""
    for module in modules:
        x = module(x, real) if isinstance(module, BatchNorm) and real is not None else module(x)
    return x


def _mlp(in_channels: int, hidden_channels: Sequence[int], out_channels: int) -> list[nn.Module]:
    widths = [in_channels, *hidden_channels, out_channels]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        linear = nn.Linear if layers else ThinLinear
        layers += [linear(width_in, width_out), nn.GELU()]
    return layers
