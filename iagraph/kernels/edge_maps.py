"""Linear maps of edges with batch norm and ReLU, and the mean over neighbours, in parts that stay in cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, embedding, linear

from iagraph.kernels.switch import differentiable
from iagraph.memory import cut_for_cache

VALUES_IN_CACHE = 2**18
"""Number of entries of edge vectors that a CPU processes at once, 1 MB in float32."""


def folded_maps(
    center: Tensor, other: Tensor, neighbors: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    r"""The mean over neighbours of :math:`h_L`, with :math:`h_l = \mathrm{ReLU}(W_l h_{l-1} + b_l)` and
    :math:`h_0 = \mathrm{ReLU}(c_i + o_j)`: batch norms with fixed statistics are folded into the linear maps.

    Args:
        center: the target's part of an edge, shape [nodes, channels].
        other: the source's part of an edge, shape [sources, channels].
        neighbors: the sources of each node's edges, shape [nodes, k].
        weights: one matrix for each map.
        biases: one vector for each map.

    Returns:
        Shape [nodes, channels of the last map].
    """
    means = []
    for part, sources in zip(*_parts(center, neighbors, [bias.numel() for bias in biases]), strict=True):
        # Gradients do not need the values before each ReLU, so it overwrites them.
        edges = (part.unsqueeze(1) + embedding(sources, other)).relu_()
        for weight, bias in zip(weights, biases, strict=True):
            edges = linear(edges, weight, bias).relu_()
        means.append(edges.mean(dim=1))
    return torch.cat(means)


def normed_maps(
    center: Tensor, other: Tensor, neighbors: Tensor, weights: Sequence[Tensor], norms: Sequence[nn.BatchNorm1d]
) -> Tensor:
    r"""The mean over neighbours of :math:`h_L`, with :math:`h_l = \mathrm{ReLU}(\gamma_l \hat z_l + \beta_l)`,
    :math:`z_l = W_l h_{l-1}`, :math:`z_0 = c_i + o_j`, and :math:`\hat z = (z - \langle z \rangle) / \sigma(z)` with
    the statistics of all edges, of which there must be at least two.

    The reference applies the modules in turn in training mode, running statistics included. Of all activations, only
    the :math:`z_l` are kept for the backward pass. Hooks on the modules do not run.

    Args:
        center: the target's part of an edge, shape [nodes, channels].
        other: the source's part of an edge, shape [sources, channels].
        neighbors: the sources of each node's edges, shape [nodes, k].
        weights: one matrix for each map.
        norms: the batch norm before the first map, and one after each.

    Returns:
        Shape [nodes, channels of the last map].
    """
    weights = [weight.to(center.dtype) for weight in weights]  # under autocast, an earlier product was rounded
    affine = [*(norm.weight for norm in norms), *(norm.bias for norm in norms)]
    return _NormedMaps.apply(neighbors, norms, center, other, *affine, *weights)


def _reference(neighbors: Tensor, eps: Sequence[float], center: Tensor, other: Tensor, *tensors: Tensor) -> Tensor:
    """:func:`normed_maps` in plain PyTorch, except for the running statistics."""
    gammas, betas, weights = _cut(tensors, len(eps), len(eps))
    h = (center.unsqueeze(1) + embedding(neighbors, other)).flatten(0, 1)
    for layer, (gamma, beta) in enumerate(zip(gammas, betas, strict=True)):
        z = h @ weights[layer - 1].t() if layer else h
        h = batch_norm(z, None, None, gamma, beta, training=True, eps=eps[layer]).relu()
    return h.view(*neighbors.shape, -1).mean(dim=1)


class _NormedMaps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, neighbors: Tensor, norms: Sequence[nn.BatchNorm1d], center: Tensor, other: Tensor, *tensors: Tensor
    ) -> Tensor:
        gammas, betas, weights = _cut(tensors, len(norms), len(norms))
        # Many small tensors: their memory is reused, that of large ones is returned to the system each time.
        rows = [
            embedding(sources, other).add_(part.unsqueeze(1)).flatten(0, 1)
            for part, sources in zip(*_parts(center, neighbors, [gamma.numel() for gamma in gammas]), strict=True)
        ]
        moments = [_moments(z) for z in rows]
        kept, statistics, means = [], [], []
        for layer, norm in enumerate(norms):
            mean, variance = _combined(moments)
            _update(norm, mean, variance, neighbors.numel())
            statistics += [mean, (variance + norm.eps).rsqrt()]
            scale, shift = _affine(gammas[layer], betas[layer], *statistics[-2:])
            following, moments = [], []
            for z in rows:
                h = _activate(z, scale, shift)
                if layer < len(weights):
                    following.append(h @ weights[layer].t())
                    moments.append(_moments(following[-1]))
                else:
                    means.append(h.unflatten(0, (-1, neighbors.size(1))).mean(dim=1))
            kept += rows
            rows = following
        ctx.eps = [norm.eps for norm in norms]
        ctx.save_for_backward(neighbors, center, other, *tensors, *statistics, *kept)
        return torch.cat(means)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        last = len(ctx.eps) - 1
        neighbors, center, other, *saved = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = [center, other, *saved[: 3 * last + 2]]
            reference = partial(_reference, neighbors, ctx.eps)
            return None, None, *differentiable(reference, inputs, [grad])
        gammas, betas, weights, statistics, kept = _cut(saved, last + 1, last + 1, last, 2 * last + 2)
        means, inverses = statistics[::2], statistics[1::2]
        affine = [_affine(*each) for each in zip(gammas, betas, means, inverses, strict=True)]
        edges, k = neighbors.numel(), neighbors.size(1)
        grads, sources = _parts(grad / k, neighbors, [gamma.numel() for gamma in gammas])
        rows = [kept[begin : begin + len(grads)] for begin in range(0, len(kept), len(grads))]
        # g: gradients of the inputs of a ReLU; sums: of g and of g z over all edges, for the gradient of the norm.
        g = [part.repeat_interleave(k, dim=0) for part in grads]
        sums = [torch.zeros(2, *mean.shape, dtype=mean.dtype, device=mean.device) for mean in means]
        for part, z in zip(g, rows[last], strict=True):
            _through_relu(part, _activate(z, *affine[last]), z, sums[last])
        grad_weights = [torch.zeros_like(weight, dtype=means[0].dtype) for weight in weights]
        for layer in range(last, 0, -1):
            slope, offset = _linear_part(sums[layer] / edges, means[layer], inverses[layer])
            scale = affine[layer][0].unsqueeze(1)
            weight = (scale * weights[layer - 1]).to(grad.dtype)
            for number, (z, below) in enumerate(zip(rows[layer], rows[layer - 1], strict=True)):
                part = torch.addcmul(g[number], z, slope, out=g[number]).add_(offset)
                h = _activate(below, *affine[layer - 1])
                grad_weights[layer - 1] += part.t() @ h
                g[number] = part @ weight
                _through_relu(g[number], h, below, sums[layer - 1])
            grad_weights[layer - 1] *= scale
        slope, offset = _linear_part(sums[0] / edges, means[0], inverses[0])
        scale = affine[0][0]
        grad_center, grad_other = [], grad.new_zeros(other.size(0), len(scale))
        for part, z, source in zip(g, rows[0], sources, strict=True):
            torch.addcmul(part, z, slope, out=part).add_(offset)
            grad_center.append(part.unflatten(0, (-1, k)).sum(dim=1))
            grad_other.index_add_(0, source.flatten(), part)
        grad_betas = [of_shift for of_shift, _ in sums]
        grad_gammas = [
            (of_z - mean * of_shift) * inverse
            for (of_shift, of_z), mean, inverse in zip(sums, means, inverses, strict=True)
        ]
        return None, None, torch.cat(grad_center) * scale, grad_other * scale, *grad_gammas, *grad_betas, *grad_weights


def _through_relu(grad: Tensor, h: Tensor, z: Tensor, sums: Tensor) -> None:
    """Turns the gradient of h into the gradient of the input of its ReLU, in place; adds to ``sums``; overwrites h."""
    torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)
    sums[0] += grad.sum(dim=0, dtype=sums.dtype)
    sums[1] += torch.mul(grad, z, out=h).sum(dim=0, dtype=sums.dtype)


def _linear_part(averages: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    r"""Slope and offset in the gradient of z, which with :math:`\hat z = (z - \langle z \rangle) / \sigma` is
    :math:`\frac{\gamma}{\sigma} \left( g - \langle g \rangle - \hat z \langle g \hat z \rangle \right) =
    \frac{\gamma}{\sigma} (g + \mathrm{slope} \cdot z + \mathrm{offset})`.

    The factor in front is applied later, to weights and sums.
    """
    slope = -(averages[1] - mean * averages[0]) * inverse.square()
    return slope, -averages[0] - slope * mean


def _affine(gamma: Tensor, beta: Tensor, mean: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """The scale and shift of a norm."""
    scale = gamma * inverse
    return scale, beta - mean * scale


def _activate(z: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, z, scale).relu_().to(z.dtype)


def _moments(rows: Tensor) -> tuple[int, Tensor, Tensor]:
    """Number of rows, their mean, and the sum of squares about it; at least in float32."""
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    mean = rows.mean(dim=0)
    return len(rows), mean, (rows - mean).square_().sum(dim=0)


def _combined(moments: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and variance of all rows from the moments of their parts."""
    if len(moments) == 1:  # as on a GPU, where the numbers would have to be copied
        rows, mean, square = moments[0]
        return mean, square / rows
    numbers, means, squares = zip(*moments, strict=True)
    total, mean_of_part = sum(numbers), torch.stack(means)
    weight = mean_of_part.new_tensor(numbers).unsqueeze(1)
    mean = (weight * mean_of_part).sum(dim=0) / total
    between = weight * (mean_of_part - mean).square()
    return mean, (torch.stack(squares) + between).sum(dim=0) / total


def _update(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, rows: int) -> None:
    """Updates the running statistics of a norm as its own ``forward`` does."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.num_batches_tracked += 1
    momentum = 1 / norm.num_batches_tracked.item() if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((variance * (rows / (rows - 1))).to(norm.running_var.dtype), momentum)


def _parts(values: Tensor, neighbors: Tensor, widths: Sequence[int]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Values and neighbours of nodes in parts, on a CPU so small that the vectors of their edges fit into cache."""
    if not cut_for_cache(values):
        return (values,), (neighbors,)
    at_once = max(VALUES_IN_CACHE // (neighbors.size(1) * max([values.size(1), *widths])), 1)
    return values.split(at_once), neighbors.split(at_once)


def _cut(tensors: Sequence[Tensor], *lengths: int) -> Iterator[Sequence[Tensor]]:
    """Splits a list into pieces of these lengths, and a last one with the rest."""
    ends = list(accumulate(lengths, initial=0))
    return (tensors[begin:end] for begin, end in zip(ends, [*ends[1:], len(tensors)], strict=True))
