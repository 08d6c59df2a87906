"""What all attention layers share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import Adj

from iagraph.dense_blocks import EdgeScores
from iagraph.edge_list import EdgeListGraph, sorted_ptr
from iagraph.nn.adjacency import edges_of
from iagraph.nn.lazy_linear import both_sizes, make_linear
from iagraph.nn.pruning import Candidates, PruningRule
from iagraph.segment import segment_softmax
from iagraph.topology import CompleteGraph

Scores = Tensor | list[EdgeScores] | None
"""Scores of the edges of a graph as its ``lift`` gives them, or none."""


class Attended(NamedTuple):
    """What a layer makes of a graph.

    Attributes:
        x: new node vectors, shape [nodes, out_channels].
        graph: the graph with the edges that the layer has left.
        alpha: their weights, shape [edges, heads]; None for a complete graph, where they are not kept.
    """

    x: Tensor
    graph: CompleteGraph | EdgeListGraph
    alpha: Tensor | None


class AttentionConv(MessagePassing):
    r"""Message passing with attention weights, per head, written once for edge lists and for complete graphs.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j

    A subclass says which scores an edge has. Their softmax over the edges of a target is its weight
    :math:`\alpha_{ij}`, or several such maps are mixed (:meth:`mix`). A node without incoming edges gets zero (through
    :math:`\mathbf{W}_o`).

    With a rule (:mod:`iagraph.nn.pruning`) some edges are dropped, after their weights are known: nothing is sent along
    them. The graph that the caller has stays as it is; the layer says which edges are left.

    Args:
        in_channels: size of the node vectors; -1 takes it from the first input. For a bipartite graph a tuple, those of
            sources and of targets, where a layer looks at these.
        out_channels: size of the result, that of all heads together as in PyTorch Geometric's ``HGTConv``; a multiple
            of ``heads``.
        heads: number of attention heads.
        bias: add learned constants to values and result.
        pruning: which edges survive; None keeps all.

    Attributes:
        tightness: how much of the rule holds in training mode, 0 for nothing to 1; in evaluation all of it does.
        by_messages: let :meth:`attend` send messages by ``propagate``, too, where hooks and explainers of PyTorch
            Geometric see them, instead of summing them itself: the same result, more slowly.

    Raises:
        ValueError: ``out_channels`` is no multiple of ``heads``, or ``pruning`` is no rule.
    """

    maps_per_head = 1
    """Softmax maps of a head, all first ones before all second ones."""
    edge_dim: int | None
    lin_score: nn.Linear | None
    """The map from edge features to scores; each subclass makes its own, or none."""

    def __init__(
        self,
        in_channels: int | tuple[int, int],
        out_channels: int,
        heads: int,
        bias: bool = False,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(aggr="add", node_dim=0)
        if not (pruning is None or isinstance(pruning, PruningRule)):
            raise ValueError(f"pruning should be a rule, such as TopK(8), not {pruning!r}")
        if heads < 1 or out_channels % heads:
            raise ValueError(f"out_channels ({out_channels}) must be a multiple of heads ({heads})")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.heads = heads
        self.pruning = pruning
        self.tightness = 1.0
        self.by_messages = False
        self.lin_value = make_linear(both_sizes(in_channels)[0], out_channels, bias=bias)
        self.lin_out = nn.Linear(out_channels, out_channels, bias=bias)

    @property
    def maps(self) -> int:
        """Number of softmax maps."""
        return self.maps_per_head * self.heads

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
        """Sums of values weighed by each head in a complete graph, shape [nodes, heads, channels]; default as above."""
        if scores is None:
            raise ValueError(f"{type(self).__name__} weighs edges by their features: give scores")
        sums = graph.attend(scores, self.lin_value(x).repeat(1, self.maps_per_head))
        return self.mix(sums, dim=1)

    def project(self, sums: Tensor) -> Tensor:
        """The result, made of the sums of all heads, shape [nodes, out_channels]."""
        return self.lin_out(sums)

    def score(self, edge_attr: Tensor | None) -> Tensor | None:
        """Scores made of edge features, shape [edges, maps]; edge features themselves where there is no such map.

        Features of shape [edges] are one per edge.
        """
        if edge_attr is None or self.lin_score is None:
            return edge_attr
        return self.lin_score(edge_attr if edge_attr.ndim > 1 else edge_attr.unsqueeze(1))

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
        batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Runs the layer on any graph.

        No edge is added: include self-loops in ``edge_index`` if a node shall see itself.

        Args:
            x: node vectors, or those of sources and targets. In the latter case no edge counts as one of a node with
                itself, and a rule may drop it.
            edge_index: edges, rows (source, target), as a tensor or an ``EdgeIndex``; or a sparse tensor of PyTorch,
                the transposed adjacency, shape [targets, sources].
            edge_attr: edge features, shape [edges, edge_dim], or [edges] if there is one; those of a sparse adjacency
                in the order of its entries, or its values if there are no others. Values of shape [edges] are features
                for a layer with an ``edge_dim`` of 1, and nothing for others.
            return_attention_weights: return ``(out, (edge_index, alpha))`` with the weights, shape [edges, heads], in
                the order of the edges given; a sparse adjacency comes back with them as values. Of a layer with a rule
                ``(out, (edge_index, alpha, edge_ids))``, with the edges that are left, as a tensor, their weights, and
                which of the edges given they are.
            batch: the graph of each target, shape [targets], for rules that give each graph a budget of its own; None
                if all of it is one graph.

        Raises:
            ValueError: ``edge_index`` is no graph of these nodes, vectors or edge features are missing or have other
                sizes, or ``batch`` does not tell the graph of each target.
        """
        source, target = (x, x) if isinstance(x, Tensor) else x
        edges = edges_of(edge_index, source.size(0), None if target is None else target.size(0))
        num_targets = edges.num_targets
        if edge_attr is None and edges.values is not None and (edges.values.ndim > 1 or self.edge_dim == 1):
            edge_attr = edges.values
        self._check_sizes(source, edges.edge_index, edge_attr)
        scores = self.edge_scores(source, target, edges.edge_index, self.score(edge_attr))
        ptr = sorted_ptr(edges.edge_index[1], num_targets)
        maps = segment_softmax(scores, edges.edge_index[1], num_targets, ptr)
        if self.pruning is None:
            alpha = self.mix(self.drop(maps), dim=1)
            out = self._gather_messages(alpha, source, edges.edge_index, num_targets)
            return (out, (edges.weighed(alpha), alpha)) if return_attention_weights else out
        if batch is not None and batch.shape != (num_targets,):
            raise ValueError(f"batch has shape {list(batch.shape)}: give the graph of each target, [{num_targets}]")
        sent, arrives = edges.edge_index
        graph = torch.zeros_like(arrives) if batch is None else batch.index_select(0, arrives)
        # The nodes of a bipartite graph are of two kinds: none is the same as another, whatever its number.
        candidates = Candidates(sent if isinstance(x, Tensor) else -1 - sent, arrives, graph, num_targets)
        alpha, edge_ids = self._survivors(scores, maps, candidates)
        left = edges.edge_index.index_select(1, edge_ids)
        out = self._gather_messages(alpha, source, left, num_targets)
        return (out, (left, alpha, edge_ids)) if return_attention_weights else out

    def _check_sizes(self, source: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> None:
        if torch.compiler.is_compiling():  # which would tie the code to these sizes
            return
        channels = both_sizes(self.in_channels)[0]
        if channels not in (-1, source.size(-1)):
            raise ValueError(f"x has shape {list(source.shape)}: this layer takes [nodes, {channels}]")
        if edge_attr is None:
            return
        if edge_attr.size(0) != edge_index.size(1):
            raise ValueError(f"edge_attr has {edge_attr.size(0)} rows: give one for each of {edge_index.size(1)} edges")
        given = edge_attr.size(1) if edge_attr.ndim > 1 else 1
        if self.edge_dim not in (None, given):
            raise ValueError(f"edge_attr has shape {list(edge_attr.shape)}: this layer takes [edges, {self.edge_dim}]")

    def attend(self, x: Tensor, graph: CompleteGraph | EdgeListGraph, scores: Scores = None) -> Attended:
        """Runs the layer on a graph whose edges have scores already.

        Args:
            x: node vectors, shape [nodes, in_channels].
            graph: who talks to whom; a layer with a rule takes a list of edges.
            scores: scores of its edges, from its ``lift``.
        """
        if isinstance(graph, CompleteGraph):
            assert self.pruning is None, "edges are dropped from a list of edges"
            assert not isinstance(scores, Tensor), "scores of a complete graph come from its lift"
            return Attended(self.project(self.sums(x, graph, scores).flatten(1)), graph, None)
        assert not isinstance(scores, list), "scores of an edge list come from its lift"
        scores = self.edge_scores(x, x, graph.edge_index, scores)
        maps = graph.softmax(scores)
        if self.pruning is None:
            alpha = self.mix(self.drop(maps), dim=1)
        else:
            source, target = graph.edge_index
            jets = graph.batch.index_select(0, target)
            alpha, kept = self._survivors(scores, maps, Candidates(source, target, jets, graph.num_nodes))
            graph = graph.keep(kept)
        if self.by_messages:
            return Attended(self._gather_messages(alpha, x, graph.edge_index, graph.num_nodes), graph, alpha)
        return Attended(self.project(graph.aggregate(alpha, self.lin_value(x))), graph, alpha)

    def _survivors(self, scores: Tensor, maps: Tensor, edges: Candidates) -> tuple[Tensor, Tensor]:
        """Weights of the edges that the rule leaves, shape [kept edges, heads], and which they are."""
        assert self.pruning is not None
        rule = self.pruning.relaxed(self.tightness) if self.training else self.pruning
        alpha = self.mix(maps, dim=1)
        wanted = rule(alpha, edges)
        kept = wanted.any(1).nonzero().squeeze(1)
        wanted = wanted.index_select(0, kept).repeat(1, maps.size(1) // wanted.size(1))
        if rule.renormalize:
            lowest = torch.finfo(scores.dtype).min  # finite, for a head may want none of a node's edges
            left = scores.index_select(0, kept).masked_fill(~wanted, lowest)
            maps = segment_softmax(left, edges.target.index_select(0, kept), edges.num_targets)
        else:
            maps = maps.index_select(0, kept)
        return self.mix(self.drop(maps * wanted), dim=1), kept

    def _gather_messages(self, alpha: Tensor, x: Tensor, edge_index: Tensor, num_targets: int) -> Tensor:
        """Sends the values of the sources along the edges and projects their weighted sum."""
        value = self.lin_value(x).unflatten(1, (self.heads, -1))
        # propagate_type: (value: Tensor, alpha: Tensor)
        out = self.propagate(edge_index, value=value, alpha=alpha, size=(x.size(0), num_targets))
        return self.project(out.flatten(1))

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The value of the source, times the weight of the edge."""
        return alpha.unsqueeze(-1) * value_j

    def reset_parameters(self) -> None:
        """Draws new weights."""
        super().reset_parameters()
        for child in self.children():
            if isinstance(child, nn.Linear | Linear):
                child.reset_parameters()

    def __repr__(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        rule = "" if self.pruning is None else f", pruning={self.pruning}"
        return f"{type(self).__name__}({channels}, heads={self.heads}, edge_dim={self.edge_dim}{rule})"
