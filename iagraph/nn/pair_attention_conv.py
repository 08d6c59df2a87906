"""Attention from edge features alone."""

from __future__ import annotations

from torch import nn

from iagraph.nn.attention_conv import AttentionConv
from iagraph.nn.pruning import PruningRule


class PairAttentionConv(AttentionConv):
    r"""Message passing whose weights are a softmax of the edge features:
    :class:`~iagraph.nn.DifferentialAttentionConv` without the second map.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j,
        \qquad \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w} \cdot \mathbf{e}_{ij})

    for each head: the baseline for differential attention in the studies of
    `"IAFormer" <https://arxiv.org/abs/2505.03258>`_.

    Args:
        in_channels: size of the node vectors, or the sizes for sources and targets; -1 takes it from the first input.
            Target vectors may have any size.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features.
        pruning: which edges to keep (:mod:`iagraph.nn.pruning`); None keeps all.

    Shapes:
        As in :class:`~iagraph.nn.DifferentialAttentionConv`.

    Raises:
        ValueError: ``out_channels`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int,
        edge_dim: int,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, heads, pruning=pruning)
        self.edge_dim = edge_dim
        # A bias would add the same to all scores of a node and cancel in the softmax.
        self.lin_score = nn.Linear(edge_dim, self.maps, bias=False)
