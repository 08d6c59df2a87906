"""Differential attention over the edges of a graph."""

from __future__ import annotations

from iagraph.nn.pair_attention_conv import PairAttentionConv
from iagraph.nn.pruning import PruningRule
from iagraph.nn.softmax_difference import SoftmaxDifference


class DifferentialAttentionConv(SoftmaxDifference, PairAttentionConv):
    r"""Message passing whose weights are the difference of two softmax maps of the edge features, from
    `"IAFormer" <https://arxiv.org/abs/2505.03258>`_.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j,
        \qquad
        \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w}_1 \cdot \mathbf{e}_{ij})
                      - \beta \operatorname{softmax}_j(\mathbf{w}_2 \cdot \mathbf{e}_{ij})

    for each head. The scores come from edge features alone; :class:`~iagraph.nn.DifferentialTransformerConv` adds
    queries and keys. The weights are signed and, before pruning, those of a node's edges sum to
    :math:`1 - \beta`. :math:`\beta = \sigma(\theta)` is learned and stays in (0, 1); it starts at ``beta``. (The
    authors' code clips it instead, which stops the gradient at the bound.)

    No edge is added, and without ``pruning`` none removed: include self-loops in ``edge_index`` if a node should see
    itself. A node without incoming edges gets zero. In a bipartite graph the vectors of targets are not
    used, only their number; if the vectors are None, it is taken from a sparse adjacency, or else from the sources.

    Args:
        in_channels: size of the node vectors, or the sizes for sources and targets; -1 takes it from the first input.
            Target vectors may have any size.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features.
        beta: initial value of :math:`\beta`, in (0, 1).
        beta_per_head: learn one :math:`\beta` per head instead of one for the layer.
        pruning: which edges to keep (:mod:`iagraph.nn.pruning`); None keeps all.

    Shapes:
        - input: node vectors :math:`(|\mathcal{V}|, F_{in})` or
          :math:`((|\mathcal{V}_s|, F_{in}), (|\mathcal{V}_t|, *))` if bipartite, edge indices
          :math:`(2, |\mathcal{E}|)`, edge features :math:`(|\mathcal{E}|, D)`
        - output: node vectors :math:`(|\mathcal{V}|, F_{out})` or :math:`(|\mathcal{V}_t|, F_{out})`

    Raises:
        ValueError: ``out_channels`` is not a multiple of ``heads``, or ``beta`` is not in (0, 1).
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int,
        edge_dim: int,
        beta: float = 0.2,
        beta_per_head: bool = False,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, heads, edge_dim, pruning, beta=beta, beta_per_head=beta_per_head)
