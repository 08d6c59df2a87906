"""Scores of many pairs by a perceptron whose activations stay in a CPU's cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from iagraph.kernels.linear import hooked, plain, plain_gelu
from iagraph.kernels.switch import differentiable, fast

PAIRS_IN_CACHE = 2048
"""Number of pairs that each thread of a CPU encodes at once: activations of 1 MB in layers of 128 stay in cache."""


def pair_scores(
    inputs: Tensor, encoder: nn.Sequential, weights: Sequence[Tensor], counts: Sequence[int]
) -> list[Sequence[Tensor]]:
    r"""Scores of pairs for several attention layers, :math:`W h_L` with :math:`h_l = \mathrm{GELU}(W_l h_{l-1} + b_l)`
    and :math:`h_0` the inputs.

    Only the activations before each GELU, from the encoder's second on, are kept for the backward pass. An encoder with
    other modules or with hooks, such as those of ``torch.nn.utils.prune``, runs itself.

    Args:
        inputs: shape [pairs, features].
        encoder: usually linear maps, each followed by GELU.
        weights: for each attention layer, the matrix for its scores, shape [maps, width of the encoder's output].
        counts: numbers of pairs in each piece of the result.

    Returns:
        For each attention layer the scores of each piece, shape [maps, pairs].
    """
    maps = [weight.size(0) for weight in weights]
    if not (fast() and _is_plain(encoder)):
        scores = torch.cat(list(weights)) @ encoder(inputs).t()
        return [rows.split(list(counts), dim=1) for rows in scores.split(maps)]
    of_encoder = [tensor for linear in list(encoder)[::2] for tensor in (linear.weight, linear.bias)]
    tensors = [inputs, torch.cat(list(weights)), *of_encoder]
    device = inputs.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        tensors = [tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if device == "cpu":
        flat = _PairScores.apply(keep, counts, maps, *tensors)
        return [flat[layer :: len(maps)] for layer in range(len(maps))]
    return [rows.split(list(counts), dim=1) for rows in _PairScores.apply(keep, [inputs.size(0)], maps, *tensors)]


def _is_plain(encoder: nn.Sequential) -> bool:
    """Whether an encoder is the function that the kernel computes."""
    modules = list(encoder.children())
    return (
        type(encoder).forward is nn.Sequential.forward
        and not hooked(encoder)
        and len(modules) % 2 == 0
        and all(plain(linear) and linear.bias is not None for linear in modules[::2])
        and all(map(plain_gelu, modules[1::2]))
    )


def _reference(inputs: Tensor, weight: Tensor, *encoder: Tensor) -> Tensor:
    """Scores of all attention layers, shape [maps, pairs], in plain PyTorch."""
    h = inputs
    for w, bias in zip(encoder[::2], encoder[1::2], strict=True):
        h = nn.functional.gelu(nn.functional.linear(h, w, bias))
    return weight @ h.t()


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        keep: bool,
        counts: Sequence[int],
        maps: Sequence[int],
        inputs: Tensor,
        weight: Tensor,
        *encoder: Tensor,
    ) -> tuple[Tensor, ...]:
        weights, biases = [w.t().contiguous() for w in encoder[::2]], encoder[1::2]
        parts = _parts(counts, inputs)
        buffers = [_buffer(inputs, parts, bias.numel()) for bias in biases]
        kept: list[Tensor] = []
        scores = [inputs.new_empty(weight.size(0), count) for count in counts]
        for piece, begin, end, first in parts:
            h = inputs[first : first + end - begin]
            for layer, (w, bias, buffer) in enumerate(zip(weights, biases, buffers, strict=True)):
                out = buffer[: end - begin]
                if layer and keep:
                    kept.append(torch.addmm(bias, h, w))
                    h = _gelu(kept[-1], out)
                else:
                    h = _gelu(torch.addmm(bias, h, w, out=out), out)
            torch.mm(weight, h.t(), out=scores[piece][:, begin:end])
        ctx.counts, ctx.maps = counts, maps
        ctx.save_for_backward(inputs, weight, *encoder, *kept)
        return tuple(rows for piece in scores for rows in piece.split(list(maps)))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        number = len(ctx.needs_input_grad) - 5
        inputs, weight, *rest = ctx.saved_tensors
        encoder, kept = rest[:number], iter(rest[number:])
        of_piece = [grads[first : first + len(ctx.maps)] for first in range(0, len(grads), len(ctx.maps))]
        if torch.is_grad_enabled():
            of_all = torch.cat([torch.cat(each) for each in of_piece], dim=1)
            return None, None, None, *differentiable(_reference, [inputs, weight, *encoder], [of_all])
        weights, biases = encoder[::2], encoder[1::2]
        transposed = [w.t().contiguous() for w in weights]
        parts = _parts(ctx.counts, inputs)
        values = [_buffer(inputs, parts, bias.numel()) for bias in biases]
        slopes = [_buffer(inputs, parts, bias.numel()) for bias in biases]
        before = _buffer(inputs, parts, biases[0].numel())
        grad_inputs = torch.empty_like(inputs) if ctx.needs_input_grad[3] else None
        grad_weight: Tensor | None = None
        grad_weights: list[Tensor | None] = [None] * len(weights)
        grad_biases: list[Tensor | None] = [None] * len(weights)
        for piece, begin, end, first in parts:
            here, size = slice(first, first + end - begin), end - begin
            z = [torch.addmm(biases[0], inputs[here], transposed[0], out=before[:size])]
            z += [next(kept) for _ in weights[1:]]
            h = [inputs[here], *(_gelu(each, buffer[:size]) for each, buffer in zip(z, values, strict=True))]
            grad = torch.cat([rows[:, begin:end] for rows in of_piece[piece]])
            grad_weight = _add(grad_weight, grad @ h[-1])
            grad = torch.mm(grad.t(), weight, out=slopes[-1][:size])
            for layer in reversed(range(len(weights))):
                grad = torch.ops.aten.gelu_backward.grad_input(grad, z[layer], grad_input=grad)
                grad_weights[layer] = _add(grad_weights[layer], h[layer].t() @ grad)
                grad_biases[layer] = _add(grad_biases[layer], grad.sum(0, dtype=_precise(grad)))
                if layer:
                    grad = torch.mm(grad, weights[layer], out=slopes[layer - 1][:size])
            if grad_inputs is not None:
                torch.mm(grad, weights[0], out=grad_inputs[here])
        of_encoder = [each for w, b in zip(grad_weights, grad_biases, strict=True) for each in (w.t(), b)]  # type: ignore[union-attr]
        return None, None, None, grad_inputs, *(each.to(inputs.dtype) for each in (grad_weight, *of_encoder))  # type: ignore[union-attr]


def _add(total: Tensor | None, part: Tensor) -> Tensor:
    """A sum over parts, which would lose most of its precision in 16 bits; None before the first part."""
    return part.to(_precise(part)) if total is None else total.add_(part)


def _precise(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _buffer(inputs: Tensor, parts: Sequence[tuple[int, int, int, int]], width: int) -> Tensor:
    """A buffer for the activations of a layer, reused for each part."""
    return inputs.new_empty(max((end - begin for _, begin, end, _ in parts), default=0), width)


def _parts(counts: Sequence[int], inputs: Tensor) -> list[tuple[int, int, int, int]]:
    """Parts to encode at once: piece, begin and end within it, and index of the first pair among all pairs."""
    at_once = PAIRS_IN_CACHE * torch.get_num_threads() if inputs.device.type == "cpu" else max(*counts, 1)
    return [
        (piece, begin, min(begin + at_once, count), first + begin)
        for piece, (count, first) in enumerate(zip(counts, accumulate(counts, initial=0), strict=False))
        for begin in range(0, max(count, 1), at_once)
    ]


def _gelu(x: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.gelu.out(x, out=out)
