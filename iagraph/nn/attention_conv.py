"""What all attention layers share."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from iagraph.dense_blocks import EdgeScores
from iagraph.segment import segment_softmax
from iagraph.topology import CompleteGraph, EdgeListGraph, sorted_ptr

Scores = Tensor | list[EdgeScores] | None
"""Scores of the edges of a graph as its ``lift`` gives them, or none."""


class AttentionConv(MessagePassing):
    r"""Message passing with attention weights, per head, written once for edge lists and for complete graphs.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j

    A subclass says which scores an edge has. Their softmax over the edges of a target is its weight
    :math:`\alpha_{ij}`, or several such maps are mixed (:meth:`mix`). A node without incoming edges gets zero (through
    :math:`\mathbf{W}_o`).

    Args:
        in_channels: size of the node vectors; for a bipartite graph, of those of the sources.
        out_channels: size of the result, a multiple of ``heads``.
        heads: number of attention heads.
        bias: add learned constants to values and result.

    Raises:
        ValueError: ``out_channels`` is no multiple of ``heads``.
    """

    edge_dim: int | None
    lin_score: nn.Linear | None
    """The map from edge features to scores; each subclass makes its own, or none."""

    def __init__(self, in_channels: int, out_channels: int, heads: int, bias: bool = False) -> None:
        super().__init__(aggr="add", node_dim=0)
        if heads < 1 or out_channels % heads:
            raise ValueError(f"out_channels ({out_channels}) must be a multiple of heads ({heads})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.lin_value = nn.Linear(in_channels, out_channels, bias=bias)
        self.lin_out = nn.Linear(out_channels, out_channels, bias=bias)

    def mix(self, maps: Tensor, dim: int) -> Tensor:
        """Weights of heads from softmax maps, or sums that heads weigh from sums that maps weigh: it is linear.

        Maps and, in the result, heads lie along ``dim``; by default there is one map per head.
        """
        return maps

    def drop(self, maps: Tensor) -> Tensor:
        """The maps, some weights dropped in training; by default none."""
        return maps

    def edge_scores(self, source: Tensor, target: Tensor | None, edge_index: Tensor, scores: Tensor | None) -> Tensor:
        """Scores of the edges of a list, shape [edges, maps]; by default those made of the edge features alone."""
        if scores is None:
            raise ValueError(f"{type(self).__name__} weighs edges by their features: give edge_attr")
        return scores

    def sums(self, x: Tensor, graph: CompleteGraph, scores: list[EdgeScores] | None) -> Tensor:
        """Sums of values weighed by each map of a complete graph, shape [nodes, maps, channels]; default as above."""
        if scores is None:
            raise ValueError(f"{type(self).__name__} weighs edges by their features: give scores")
        repeats = len(scores[0].of_pairs) // self.heads
        return graph.attend(scores, self.lin_value(x).repeat(1, repeats))

    def score(self, edge_attr: Tensor | None) -> Tensor | None:
        """Scores made of edge features, shape [edges, maps]; edge features themselves where there is no such map."""
        return edge_attr if edge_attr is None or self.lin_score is None else self.lin_score(edge_attr)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        edge_index: Tensor,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs the layer on any graph.

        No edge is added or removed: include self-loops in ``edge_index`` if a node shall see itself.

        Args:
            x: node vectors, or those of sources and targets.
            edge_index: edges, rows (source, target).
            edge_attr: edge features.
            return_attention_weights: return ``(out, (edge_index, alpha))`` with the weights, shape [edges, heads], in
                the order of the edges given.
        """
        source, target = x if isinstance(x, tuple) else (x, x)
        num_targets = (source if target is None else target).size(0)
        scores = self.edge_scores(source, target, edge_index, self.score(edge_attr))
        alpha = self._edge_weights(scores, edge_index[1], num_targets, sorted_ptr(edge_index[1], num_targets))
        out = self._gather_messages(alpha, source, edge_index, num_targets)
        return (out, (edge_index, alpha)) if return_attention_weights else out

    def attend(self, x: Tensor, graph: CompleteGraph | EdgeListGraph, scores: Scores = None) -> Tensor:
        """Runs the layer on a graph whose edges have scores already.

        Args:
            x: node vectors, shape [nodes, in_channels].
            graph: who talks to whom.
            scores: scores of its edges, from its ``lift``.

        Returns:
            Node vectors, shape [nodes, out_channels].
        """
        if isinstance(graph, CompleteGraph):
            assert not isinstance(scores, Tensor), "scores of a complete graph come from its lift"
            return self.lin_out(self.mix(self.sums(x, graph, scores), dim=1).flatten(1))
        assert not isinstance(scores, list), "scores of an edge list come from its lift"
        scores = self.edge_scores(x, x, graph.edge_index, scores)
        alpha = self._edge_weights(scores, graph.edge_index[1], graph.num_nodes, graph.ptr)
        return self._gather_messages(alpha, x, graph.edge_index, graph.num_nodes)

    def _edge_weights(self, scores: Tensor, target: Tensor, num_targets: int, ptr: Tensor | None) -> Tensor:
        return self.mix(self.drop(segment_softmax(scores, target, num_targets, ptr)), dim=1)

    def _gather_messages(self, alpha: Tensor, x: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
        """Sends the values of the sources along the edges and projects their weighted sum."""
        value = self.lin_value(x).unflatten(1, (self.heads, -1))
        # propagate_type: (value: Tensor, alpha: Tensor)
        out = self.propagate(edge_index, value=value, alpha=alpha, size=(x.size(0), num_targets))
        return self.lin_out(out.flatten(1))

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The value of the source, times the weight of the edge."""
        return alpha.unsqueeze(-1) * value_j

    def reset_parameters(self) -> None:
        """Draws new weights."""
        super().reset_parameters()
        for child in self.children():
            if isinstance(child, nn.Linear):
                child.reset_parameters()

    def __repr__(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{type(self).__name__}({channels}, heads={self.heads}, edge_dim={self.edge_dim})"
