"""Layer-wise relevance propagation for transformers, as rules that change only the backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from iagraph.interpret.recording import AttentionModel
from iagraph.nn import AttentionConv, PairEncoder
from iagraph.nn.pair_biases import PairBiases
from iagraph.nn.pair_gate import Gate

PAIRS = (PairEncoder, PairBiases, Gate)
"""Modules that read pairs; they affect only attention weights, which are held constant."""


@contextmanager
def linear_rules(model: AttentionModel) -> Iterator[None]:
    r"""Context in which a model, run on lists of edges, has unchanged outputs but the gradients of an affine function.

    Held constant are attention weights, :math:`y_i = \sum_j [\alpha_{ij}]\, v_j` (rule AH of arXiv 2202.07304), the
    denominators of layer norms, :math:`y = (x - \bar x) / [\sigma]`, and of RMS norms (rule LN), and the gates of GELU,
    :math:`y = x\, [\Phi(x)]`. With these gradients, gradient times input is layer-wise relevance propagation.

    Args:
        model: in evaluation mode; run it on lists of edges, ``model(jets, fully_connected(jets.ptr))``: dense blocks
            have no edge weights.
    """
    of_pairs = {module for part in model.modules() if isinstance(part, PAIRS) for module in part.modules()}
    with ExitStack() as undo:
        for module in model.modules():
            if module in of_pairs:
                continue
            if isinstance(module, AttentionConv):
                # Overrides the method for this layer only.
                setattr(module, "weights", partial(_constant, module.weights))  # noqa: B010, a method for mypy
                undo.callback(delattr, module, "weights")
            for kind, rule in RULES.items():
                if isinstance(module, kind):
                    undo.callback(module.register_forward_hook(rule).remove)
        yield


def _constant(weights: Callable[[Tensor], Tensor], maps: Tensor) -> Tensor:
    return weights(maps).detach()


def _layer_norm(module: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    centred = inputs[0] - inputs[0].mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + module.eps).rsqrt().detach()
    return _affine(centred * scale, module)


def _rms_norm(module: nn.RMSNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
    return _affine(x * (x.square().mean(-1, keepdim=True) + eps).rsqrt().detach(), module)


def _affine(x: Tensor, module: nn.LayerNorm | nn.RMSNorm) -> Tensor:
    x = x if module.weight is None else x * module.weight
    bias = getattr(module, "bias", None)  # RMS norms have none
    return x if bias is None else x + bias


def _gelu(module: nn.GELU, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    return x * (0.5 * (1 + torch.erf(x / math.sqrt(2)))).detach()


RULES: dict[type[nn.Module], Any] = {nn.LayerNorm: _layer_norm, nn.RMSNorm: _rms_norm, nn.GELU: _gelu}
"""Forward hooks that keep outputs but change gradients, by type of module."""
