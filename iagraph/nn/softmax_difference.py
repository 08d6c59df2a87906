"""The difference of two softmax maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from iagraph.nn.attention_conv import AttentionConv


class SoftmaxDifference(AttentionConv):
    r"""Gives each head of an attention layer two softmax maps and takes their difference, whatever the scores are of.

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(s^1_{ij}) - \beta \operatorname{softmax}_j(s^2_{ij})

    :math:`\beta = \sigma(\theta)` is learned and stays in (0, 1). The weights are signed and those of a node sum to
    :math:`1 - \beta`. A layer has it as its first base and calls :meth:`start_beta` when it is made.

    Attributes:
        initial_beta: where :math:`\beta` starts.
    """

    maps_per_head = 2
    initial_beta: float
    theta: nn.Parameter

    def start_beta(self, beta: float, per_head: bool) -> None:
        """Makes the parameter, one for the layer or one per head, and draws all weights."""
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, not {beta}")
        self.initial_beta = beta
        self.theta = nn.Parameter(torch.empty(self.heads if per_head else 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new weights and sets beta to where it starts."""
        super().reset_parameters()
        nn.init.constant_(self.theta, math.log(self.initial_beta / (1 - self.initial_beta)))

    @property
    def beta(self) -> Tensor:
        r"""The learned :math:`\beta`, shape [1] or [heads]."""
        return self.theta.sigmoid()

    def mix(self, maps: Tensor, dim: int) -> Tensor:
        r"""The first half minus :math:`\beta` times the second half."""
        first, second = maps.chunk(2, dim=dim)
        shape = [1] * maps.ndim
        shape[dim] = -1
        return torch.addcmul(first, self.beta.view(shape), second, value=-1)
