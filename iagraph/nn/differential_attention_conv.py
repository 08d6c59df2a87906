"""Differential attention over the edges of a graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from iagraph.segment import segment_softmax
from iagraph.topology import CompleteGraph, EdgeListGraph, sorted_ptr


class DifferentialAttentionConv(MessagePassing):
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

    No edge is added or removed: include self-loops in ``edge_index`` if a node shall see itself. A node without
    incoming edges gets zero.

    Args:
        in_channels: size of the node vectors; for a bipartite graph, of those of the sources.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features.
        beta: where :math:`\beta` starts, in (0, 1).
        beta_per_head: learn one :math:`\beta` per head instead of one for the layer.

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
    ) -> None:
        super().__init__(aggr="add", node_dim=0)
        if heads < 1 or out_channels % heads:
            raise ValueError(f"out_channels ({out_channels}) must be a multiple of heads ({heads})")
        if not 0 < beta < 1:
            raise ValueError(f"beta must lie between 0 and 1, not {beta}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.edge_dim = edge_dim
        self.initial_beta = beta
        # A bias would add the same to all scores of a node and cancel in the softmax.
        self.lin_score = nn.Linear(edge_dim, 2 * heads, bias=False)
        self.lin_value = nn.Linear(in_channels, out_channels, bias=False)
        self.lin_out = nn.Linear(out_channels, out_channels, bias=False)
        self.theta = nn.Parameter(torch.empty(heads if beta_per_head else 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new weights and sets beta to where it starts."""
        super().reset_parameters()
        for linear in (self.lin_score, self.lin_value, self.lin_out):
            linear.reset_parameters()
        nn.init.constant_(self.theta, math.log(self.initial_beta / (1 - self.initial_beta)))

    @property
    def beta(self) -> Tensor:
        r"""The learned :math:`\beta`, shape [1] or [heads]."""
        return self.theta.sigmoid()

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        edge_index: Tensor,
        edge_attr: Tensor,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs the layer on any graph.

        Args:
            x: node vectors, or those of sources and targets. Of the targets only their number counts; None stands for
                as many targets as sources.
            edge_index: edges, rows (source, target).
            edge_attr: edge features.
            return_attention_weights: return ``(out, (edge_index, alpha))`` with the signed weights, shape
                [edges, heads], in the order of the edges given.
        """
        source, target = x if isinstance(x, tuple) else (x, x)
        num_targets = (source if target is None else target).size(0)
        ptr = sorted_ptr(edge_index[1], num_targets)
        alpha = self.edge_attention(self.lin_score(edge_attr), edge_index[1], num_targets, ptr)
        out = self.gather_messages(alpha, source, edge_index, num_targets)
        return (out, (edge_index, alpha)) if return_attention_weights else out

    def attend(self, x: Tensor, graph: CompleteGraph | EdgeListGraph, pair_scores: Tensor) -> Tensor:
        """Runs the layer with scores that are symmetric and known for each pair.

        Args:
            x: node vectors, shape [nodes, in_channels].
            graph: who talks to whom.
            pair_scores: scores of the pairs of ``graph``, shape [2 * heads, pairs]: first maps, then second.

        Returns:
            Node vectors, shape [nodes, out_channels].
        """
        if isinstance(graph, CompleteGraph):
            beta = self.beta.view(-1, 1, 1, 1)
            maps = (scores.softmax(dim=-1) for scores in graph.lift(pair_scores))
            weights = [_difference(both, beta, dim=0) for both in maps]
            return self.lin_out(graph.aggregate(weights, self.lin_value(x)))
        alpha = self.edge_attention(graph.lift(pair_scores), graph.edge_index[1], graph.num_nodes, graph.ptr)
        return self.gather_messages(alpha, x, graph.edge_index, graph.num_nodes)

    def edge_attention(self, scores: Tensor, target: Tensor, num_targets: int, ptr: Tensor | None) -> Tensor:
        """Signed weights, shape [edges, heads], from scores of shape [edges, 2 * heads]."""
        return _difference(segment_softmax(scores, target, num_targets, ptr), self.beta, dim=1)

    def gather_messages(self, alpha: Tensor, x: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
        """Sends the values of the sources along the edges and projects their weighted sum."""
        value = self.lin_value(x).view(-1, self.heads, self.out_channels // self.heads)
        # propagate_type: (value: Tensor, alpha: Tensor)
        out = self.propagate(edge_index, value=value, alpha=alpha, size=(x.size(0), num_targets))
        return self.lin_out(out.flatten(1))

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The value of the source, times the weight of the edge."""
        return alpha.unsqueeze(-1) * value_j

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"heads={self.heads}, edge_dim={self.edge_dim})"
        )


def _difference(maps: Tensor, beta: Tensor, dim: int) -> Tensor:
    r"""The first half of the maps along ``dim`` minus :math:`\beta` times the second half."""
    first, second = maps.chunk(2, dim=dim)
    return first - beta * second
