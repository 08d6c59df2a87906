"""The pair encoder of ParT: pair features to attention biases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from iagraph.kernels.linear import ThinLinear, hooked, plain, plain_gelu
from iagraph.memory import cut_for_cache
from iagraph.nn.encoders import BatchNorm, through

PAIRS_AT_ONCE = 8192
"""Number of pairs that a CPU encodes at once in evaluation: their activations, 2 MB in layers of 64, stay in cache."""


class PairBiases(nn.Sequential):
    """Pair features to attention biases, one per head, by a batch norm and linear maps, each followed by a batch norm
    and GELU (arXiv 2202.03772).

    In evaluation mode the norms, which are then affine, are folded into the adjacent linear maps, and a CPU encodes the
    pairs in parts: values and gradients are the same. With other modules or with hooks, the modules themselves run.

    Args:
        widths: number of pair features, widths of the hidden layers, number of heads.

    Shapes:
        - input: pair features [pairs, features]
        - output: biases [heads, pairs]
    """

    def __init__(self, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [BatchNorm(widths[0])]
        for width_in, width_out in pairwise(widths):
            linear = nn.Linear if len(layers) > 1 else ThinLinear
            layers += [linear(width_in, width_out), BatchNorm(width_out), nn.GELU()]
        super().__init__(*layers)

    def forward(self, input: Tensor, real: Tensor | None = None) -> Tensor:
        """Biases of pairs; ``real`` as in :class:`BatchNorm`."""
        if self.training or not self._can_be_folded():  # in training, the norms need the statistics of all pairs
            # Not transposed: gradients would then come in columns, in which a batch norm took 16 ms on a GPU.
            return torch.stack(through(self, input, real).unbind(1))
        layers = self.folded()
        parts = input.split(PAIRS_AT_ONCE) if cut_for_cache(input) else (input,)
        return torch.cat([_encode(part, layers).t() for part in parts], dim=1)

    def _can_be_folded(self) -> bool:
        first, *modules = self
        norms = [first, *modules[1::3]]
        return (
            all(type(norm) is BatchNorm for norm in norms)
            and not hooked(*norms)
            and all(plain(linear) and linear.bias is not None for linear in modules[::3])
            and all(map(plain_gelu, modules[2::3]))
        )

    def folded(self) -> list[tuple[Tensor, Tensor]]:
        """Weights, shape [width in, width out], and biases of equivalent linear maps, each followed by GELU."""
        first, *modules = self
        linears, norms = cast(list[nn.Linear], modules[::3]), cast(list[BatchNorm], modules[1::3])
        scale, shift = cast(BatchNorm, first).as_affine()
        layers: list[tuple[Tensor, Tensor]] = []
        for linear, norm in zip(linears, norms, strict=True):
            weight, bias = linear.weight.t(), cast(Tensor, linear.bias)
            if not layers:  # its inputs come from the first norm
                weight, bias = weight * scale.unsqueeze(1), bias + linear.weight @ shift
            after, plus = norm.as_affine()
            layers.append((weight * after, bias * after + plus))
        return layers


def _encode(h: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    for weight, bias in layers:
        h = torch.addmm(bias, h, weight)
        h = nn.functional.gelu(h) if torch.is_grad_enabled() else torch.ops.aten.gelu_(h)
    return h
