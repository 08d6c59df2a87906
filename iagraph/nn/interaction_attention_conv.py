"""Attention from queries and keys, with a bias from edge features."""

from __future__ import annotations

import math

from torch import Tensor, nn

from iagraph.graph import Graph
from iagraph.graph.protocol import Scores
from iagraph.nn.attention_conv import AttentionConv
from iagraph.nn.lazy_linear import both_sizes, make_linear
from iagraph.nn.pruning import PruningRule


class InteractionAttentionConv(AttentionConv):
    r"""Message passing whose weights come from queries, keys and edge features, from
    `"Particle Transformer for Jet Tagging" <https://arxiv.org/abs/2202.03772>`_ (its P-MHA).

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j,
        \qquad
        \alpha_{ij} = \operatorname{softmax}_j \left(
            \frac{(\mathbf{W}_q \mathbf{x}_i) \cdot (\mathbf{W}_k \mathbf{x}_j)}{\sqrt{d}} + u_{ij} \right)

    for each head, with :math:`d` channels per head. The bias :math:`u_{ij}` is :math:`\mathbf{w} \cdot
    \mathbf{e}_{ij}` if ``edge_dim`` is given; otherwise the edge features are the biases themselves, one per head.
    Without edge features it is plain attention.

    No edge is added, and without ``pruning`` none removed: include self-loops in ``edge_index`` if a node should see
    itself. A node without incoming edges gets the bias of the last linear map, if any.

    Args:
        in_channels: size of the node vectors, or the sizes for sources and targets; -1 takes it from the first input.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        edge_dim: size of the edge features; None if there are none, or if they are the biases themselves.
        bias: add learned biases to queries, keys, values and result.
        dropout: probability with which a weight is dropped in training.
        pruning: which edges to keep (:mod:`iagraph.nn.pruning`); None keeps all.

    Shapes:
        - input: node vectors :math:`(|\mathcal{V}|, F_{in})` or
          :math:`((|\mathcal{V}_s|, F_s), (|\mathcal{V}_t|, F_t))` if bipartite, edge indices
          :math:`(2, |\mathcal{E}|)`, edge features :math:`(|\mathcal{E}|, D)`, :math:`(|\mathcal{E}|, heads)` or none
        - output: node vectors :math:`(|\mathcal{V}|, F_{out})` or :math:`(|\mathcal{V}_t|, F_{out})`

    Raises:
        ValueError: ``out_channels`` is not a multiple of ``heads``, the targets of a bipartite graph lack vectors,
            edge features are missing although ``edge_dim`` is given, or biases are not one per edge and head.
    """

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int = 1,
        edge_dim: int | None = None,
        bias: bool = False,
        dropout: float = 0.0,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, heads, bias, pruning)
        self.dropout = dropout
        self.edge_dim = edge_dim
        of_source, of_target = both_sizes(in_channels)
        self.lin_query = make_linear(of_target, out_channels, bias=bias)
        self.lin_key = make_linear(of_source, out_channels, bias=bias)
        self.lin_score = None if edge_dim is None else nn.Linear(edge_dim, self.maps, bias=False)

    def query(self, x: Tensor) -> Tensor:
        r"""Queries, divided by :math:`\sqrt{d}`; shape [nodes, out_channels]."""
        return self.lin_query(x) / math.sqrt(self.out_channels // self.maps)

    def feature_scores(self, edge_attr: Tensor | None) -> Tensor | None:
        """Biases of edges, shape [edges, maps]."""
        if self.lin_score is None and edge_attr is not None and edge_attr.shape[1:] != (self.maps,):
            raise ValueError(
                f"edge_attr has shape {list(edge_attr.shape)}: without edge_dim it holds the biases themselves, "
                f"[edges, {self.maps}]"
            )
        return super().feature_scores(edge_attr)

    def scores(self, source: Tensor, target: Tensor | None, graph: Graph, scores: Scores | None) -> Scores:
        """Products of queries and keys, plus the biases."""
        if target is None:
            raise ValueError("queries are made of the targets' vectors: give x = (source, target)")
        if scores is None and self.lin_score is not None:
            raise ValueError(f"this layer has an edge_dim ({self.edge_dim}): give edge_attr, or scores made of it")
        return graph.dot(self.query(target), self.lin_key(source), self.maps, scores)
