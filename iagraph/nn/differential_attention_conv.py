"""Differential attention over the edges of a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from iagraph.nn.attention_conv import AttentionConv
from iagraph.nn.pruning import PruningRule


class DifferentialAttentionConv(AttentionConv):
    r"""Message passing whose weights are the difference of two softmax maps of the edge features, from
    `"IAFormer" <https://arxiv.org/abs/2505.03258>`_.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j,
        \qquad
        \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w}_1 \cdot \mathbf{e}_{ij})
                      - \beta \operatorname{softmax}_j(\mathbf{w}_2 \cdot \mathbf{e}_{ij})

    for each head. The scores come from the edges alone: there are no queries and keys. The weights are signed and
    those of a node sum to :math:`1 - \beta`. :math:`\beta = \sigma(\theta)` is learned and stays in (0, 1); it starts
    at ``beta``. (The authors' code clips instead, which stops the gradient at the bound.)

    No edge is added, and without ``pruning`` none removed: include self-loops in ``edge_index`` if a node shall see
    itself. A node without incoming edges gets zero. In a bipartite graph, of the targets only their number counts;
    None stands for as many targets as sources.

    Args:
        in_channels: size of the node vectors; for a bipartite graph, of those of the sources.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features.
        beta: where :math:`\beta` starts, in (0, 1).
        beta_per_head: learn one :math:`\beta` per head instead of one for the layer.
        pruning: which edges survive (:mod:`iagraph.nn.pruning`); None keeps all.

    Shapes:
        - input: node vectors :math:`(|\mathcal{V}|, F_{in})` or
          :math:`((|\mathcal{V}_s|, F_{in}), (|\mathcal{V}_t|, *))` if bipartite, edge indices
          :math:`(2, |\mathcal{E}|)`, edge features :math:`(|\mathcal{E}|, D)`
        - output: node vectors :math:`(|\mathcal{V}|, F_{out})` or :math:`(|\mathcal{V}_t|, F_{out})`

    Raises:
        ValueError: ``out_channels`` is no multiple of ``heads``, or ``beta`` is not in (0, 1).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int,
        edge_dim: int,
        beta: float = 0.2,
        beta_per_head: bool = False,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, heads, pruning=pruning)
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, not {beta}")
        self.edge_dim = edge_dim
        self.initial_beta = beta
        # First maps, then second. A bias would add the same to all scores of a node and cancel in the softmax.
        self.lin_score = nn.Linear(edge_dim, 2 * heads, bias=False)
        self.theta = nn.Parameter(torch.empty(heads if beta_per_head else 1))
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
