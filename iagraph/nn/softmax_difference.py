"""The difference of two softmax maps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from iagraph.nn.attention_conv import AttentionConv


class SoftmaxDifference(AttentionConv):
    r"""Mixin: gives each head two softmax maps and takes their difference, wherever the scores come from.

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(s^1_{ij}) - \beta \operatorname{softmax}_j(s^2_{ij})

    :math:`\beta = \sigma(\theta)` is learned and stays in (0, 1). The weights are signed and, before pruning, those of
    a node's edges sum to :math:`1 - \beta`. List it first among a layer's bases.

    Args:
        arguments: passed to the layer's other base, as are ``options``.
        beta: initial value of :math:`\beta`, in (0, 1).
        beta_per_head: learn one :math:`\beta` per head instead of one for the layer.
        options: see ``arguments``.

    Attributes:
        initial_beta: initial value of :math:`\beta`.

    Raises:
        ValueError: ``beta`` is not in (0, 1).
    """

    maps_per_head = 2

    def __init__(self, *arguments: Any, beta: float, beta_per_head: bool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, not {beta}")
        self.initial_beta = beta
        self.theta = nn.Parameter(torch.empty(self.heads if beta_per_head else 1))
        self.reset_parameters()

    @property
    def beta(self) -> Tensor:
        r"""The learned :math:`\beta`, shape [1] or [heads]."""
        return self.theta.sigmoid()

    def weigh(self, *maps: Tensor) -> Tensor:
        r"""The first map of each head minus :math:`\beta` times the second."""
        first, second = maps
        beta = self.beta.view(-1, *[1] * (first.ndim - 1))
        return torch.addcmul(first, beta, second, value=-1)  # first - beta * second, rounded once

    def reset_parameters(self) -> None:
        """Draws new weights and resets beta to its initial value."""
        super().reset_parameters()
        nn.init.constant_(self.theta, math.log(self.initial_beta / (1 - self.initial_beta)))
