"""Relevance of particles from gradients: Grad-CAM, gradient times input, integrated gradients.

All take a model in evaluation mode, jets on its device, and the class of each jet whose
:func:`~iagraph.studies.attribution.evidence.evidence` is explained, shape [jets]; all give a number per particle, shape
[particles], positive where it speaks for the class.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from iagraph.graph import fully_connected
from iagraph.jets import JetBatch
from iagraph.nn.attention_conv import AttentionOutput
from iagraph.segment import segment_sum
from iagraph.studies.attribution.evidence import evidence, fed, frozen, scaled_features
from iagraph.studies.attribution.propagation import linear_rules
from iagraph.studies.recording import AttentionModel

STEPS = 8
"""Points of integrals: of quark and gluon jets, sums are off by 1 % of what they should be in IAFormer, 8 % in ParT."""


def grad_cam(model: AttentionModel, jets: JetBatch, classes: Tensor, block: int = -1, signed: bool = False) -> Tensor:
    r"""Grad-CAM (arXiv 1610.02391), with particles in place of pixels.

    .. math::
        R_i = \mathrm{ReLU}\Big(\sum_c w_c\, x_{ic}\Big), \qquad
        w_c = \frac1n \sum_{i=1}^n \frac{\partial e}{\partial x_{ic}}

    with the vectors :math:`\mathbf{x}_i` of the n particles of a jet after a block. After the last block of a model
    that reads a jet by the mean, :math:`n w_c` is the weight of its last map, and the signed relevance adds up to the
    evidence without the bias.

    Args:
        model: the model, in evaluation mode.
        jets: the jets, on its device.
        classes: the class of each jet that is explained, shape [jets].
        block: number of the block; -1 is the last.
        signed: without the ReLU.
    """
    vectors: list[Tensor] = []

    def restart(module: torch.nn.Module, inputs: Any, output: AttentionOutput | Tensor) -> AttentionOutput | Tensor:
        x = output.x if isinstance(output, AttentionOutput) else output
        vectors.append(x.detach().requires_grad_())
        return output._replace(x=vectors[0]) if isinstance(output, AttentionOutput) else vectors[0]

    hook = model.blocks[block].register_forward_hook(restart)
    try:
        with torch.enable_grad(), frozen(model):
            value = evidence(model(jets), classes).sum()
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(value, vectors)
    sizes = jets.ptr.diff().clamp(min=1).unsqueeze(1)
    weights = segment_sum(gradient, jets.batch, len(jets), jets.ptr) / sizes
    relevance = (weights.index_select(0, jets.batch) * vectors[0].detach()).sum(1)
    return relevance if signed else relevance.relu()


def gradient_times_input(model: AttentionModel, jets: JetBatch, classes: Tensor) -> Tensor:
    r"""Gradient times input, :math:`R_i = \sum_f x_{if}\, \partial e / \partial x_{if}`, of scaled node features.

    What the model knows of pairs comes from momenta and is held constant: see
    :func:`~iagraph.studies.attribution.evidence.fed`.
    """
    features = scaled_features(model, jets)
    return (features * _gradient(model, jets, classes, features)).sum(1)


def integrated_gradients(model: AttentionModel, jets: JetBatch, classes: Tensor, steps: int = STEPS) -> Tensor:
    r"""Integrated gradients (arXiv 1703.01365) of scaled node features.

    .. math::
        R_i = \sum_f x_{if} \int_0^1 \frac{\partial e(t\, x)}{\partial x_{if}}\, dt

    starting from features of zero, the centre of each one's scale, with what is known of pairs held constant. The
    relevance of a jet adds up to :math:`e(x) - e(0)`, up to the error of the integral.

    Args:
        model: the model, in evaluation mode.
        jets: the jets, on its device.
        classes: the class of each jet that is explained, shape [jets].
        steps: points of the Gauss-Legendre rule.
    """
    features = scaled_features(model, jets)
    points, weights = np.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(features)
    for point, weight in zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True):
        total += weight * _gradient(model, jets, classes, point * features)
    return (features * total).sum(1)


def layerwise_relevance(model: AttentionModel, jets: JetBatch, classes: Tensor) -> Tensor:
    r"""Layer-wise relevance propagation for transformers (arXiv 2202.07304, the rules AH and LN).

    .. math::
        R_i = \sum_f x_{if}\, \frac{\partial \tilde e}{\partial x_{if}}

    where :math:`\tilde e` is the evidence with attention weights, denominators of norms and gates of GELU held constant
    (:func:`~iagraph.studies.attribution.propagation.linear_rules`): an affine function of the scaled node features. The
    relevance of a jet adds up to the evidence minus what biases (and the class token of ParT) add to it.

    Differential attention needs no rule of its own: its signed weights are constants, too, and a particle that is
    subtracted counts against what it carries.
    """
    features = scaled_features(model, jets)
    with linear_rules(model):
        return (features * _gradient(model, jets, classes, features, fully_connected(jets.ptr))).sum(1)


def _gradient(
    model: AttentionModel, jets: JetBatch, classes: Tensor, features: Tensor, edge_index: Tensor | None = None
) -> Tensor:
    features = features.detach().requires_grad_()
    with torch.enable_grad(), frozen(model), fed(model, features):
        value = evidence(model(jets, edge_index), classes).sum()
    (gradient,) = torch.autograd.grad(value, [features])
    return gradient
