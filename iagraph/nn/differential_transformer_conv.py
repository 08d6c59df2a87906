"""Differential attention from queries and keys."""

from __future__ import annotations

from torch import Tensor

from iagraph.nn.encoders import RMSNorm
from iagraph.nn.interaction_attention_conv import InteractionAttentionConv
from iagraph.nn.pruning import PruningRule
from iagraph.nn.softmax_difference import SoftmaxDifference


class DifferentialTransformerConv(SoftmaxDifference, InteractionAttentionConv):
    r"""Message passing whose weights are the difference of two softmax maps of queries and keys, from
    `"Differential Transformer" <https://arxiv.org/abs/2410.05258>`_.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \, (1 - \beta_0) \operatorname{RMSNorm} \left(
            \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j \right),
        \qquad
        \alpha_{ij} = \operatorname{softmax}_j(s^1_{ij}) - \beta \operatorname{softmax}_j(s^2_{ij}),
        \qquad
        s^m_{ij} = \frac{(\mathbf{W}^m_q \mathbf{x}_i) \cdot (\mathbf{W}^m_k \mathbf{x}_j)}{\sqrt{d}}
            + \mathbf{w}^m \cdot \mathbf{e}_{ij}

    for each head, which has two sets of queries and keys, of :math:`d` channels each, and values of :math:`2d`
    channels. The sum of each head is normalised on its own, with scales shared by all heads, and multiplied by one
    minus the initial value :math:`\beta_0`. All of this is as published, except for two things:

    - :math:`\beta = \sigma(\theta)` is learned as in :class:`~iagraph.nn.DifferentialAttentionConv` and stays in
      (0, 1). The paper's :math:`\lambda = \exp(\lambda_{q1} \cdot \lambda_{k1}) - \exp(\lambda_{q2} \cdot
      \lambda_{k2}) + \lambda_0` has no bounds. Its :math:`\lambda_0 = 0.8 - 0.6 \exp(-0.3 (l - 1))` in layer
      :math:`l` can be given as ``beta``; the default is its value in the first layer.
    - Edges may have features, which add to the scores. The paper has none; for scores from edge features alone,
      see :class:`~iagraph.nn.DifferentialAttentionConv`.

    No edge is added, and without ``pruning`` none removed: include self-loops in ``edge_index`` if a node should see
    itself. A node without incoming edges gets zero.

    Args:
        in_channels: size of the node vectors, or the sizes for sources and targets; -1 takes it from the first input.
        out_channels: size of the result, a multiple of twice ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features; None if there are none, or if they are the attention biases, one per map.
        beta: initial value of :math:`\beta`, in (0, 1).
        beta_per_head: learn one :math:`\beta` per head instead of one for the layer.
        dropout: probability with which an entry of a map is dropped in training.
        pruning: which edges to keep (:mod:`iagraph.nn.pruning`); None keeps all.

    Shapes:
        As in :class:`~iagraph.nn.InteractionAttentionConv`, with edge features :math:`(|\mathcal{E}|, D)`,
        :math:`(|\mathcal{E}|, 2 \cdot heads)` or none.

    Raises:
        ValueError: ``out_channels`` is not a multiple of twice ``heads``, ``beta`` is not in (0, 1), or as in
            :class:`~iagraph.nn.InteractionAttentionConv`.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        edge_dim: int | None = None,
        beta: float = 0.2,
        beta_per_head: bool = False,
        dropout: float = 0.0,
        pruning: PruningRule | None = None,
    ) -> None:
        if heads > 0 and out_channels % (2 * heads):
            raise ValueError(f"out_channels ({out_channels}) must be a multiple of twice heads ({heads})")
        super().__init__(
            in_channels,
            out_channels,
            heads,
            edge_dim,
            dropout=dropout,
            pruning=pruning,
            beta=beta,
            beta_per_head=beta_per_head,
        )
        self.norm = RMSNorm(out_channels // heads, eps=1e-5)

    def project(self, sums: Tensor) -> Tensor:
        """The result, shape [nodes, out_channels], from the sums of all heads, each normalised."""
        normed = self.norm(sums.unflatten(1, (self.heads, -1))) * (1 - self.initial_beta)
        return self.lin_out(normed.flatten(1))
