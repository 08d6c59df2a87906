"""The base class of all attention layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.dense.linear import Linear
from torch_geometric.typing import Adj

from iagraph.graph import Graph, PrunableGraph, SparseGraph
from iagraph.graph.protocol import Scores
from iagraph.kernels.dropout import dropout
from iagraph.nn.adjacency import check_batch, edges_of
from iagraph.nn.lazy_linear import both_sizes, make_linear
from iagraph.nn.pruning import PruningRule

HOOKS = [f"{step}_forward_{when}hooks" for step in ("propagate", "message", "aggregate") for when in ("pre_", "")]
"""Attributes in which PyTorch Geometric stores the hooks on a layer's messages, without their leading underscore."""


class AttentionOutput(NamedTuple):
    r"""The output of an attention layer.

    Attributes:
        x: new node vectors, shape [nodes, out_channels].
        graph: the graph with the edges that the layer kept.
        alpha: the weights of these edges, shape [heads, \*edges]; None for dense blocks, which do not store them.
    """

    x: Tensor
    graph: Any
    alpha: Tensor | None

    def edge_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """Kept edges, rows (source, target), shape [2, edges]; their weights, shape [edges, heads]; their indices among
        the original edges, shape [edges]. Only for a :class:`~iagraph.graph.SparseGraph`.
        """
        assert self.alpha is not None
        return self.graph.edge_index, self.alpha.t(), self.graph.edge_ids


class AttentionConv(MessagePassing):
    r"""Message passing with attention weights for each head, on a graph of any form.

    .. math::
        \mathbf{x}^{\prime}_i = \mathbf{W}_o \sum_{j \in \mathcal{N}(i)} \alpha_{ij} \mathbf{W}_v \mathbf{x}_j

    A subclass defines the scores of edges (:meth:`scores`) and how the softmax maps of the scores, each normalised over
    the edges of a target, become weights (:meth:`weigh`); by default each head has one map, whose entries are the
    weights. A node without incoming edges gets :math:`\mathbf{W}_o` applied to zero.

    A rule (:mod:`iagraph.nn.pruning`) drops edges once their weights are known: no message is sent along them. The
    caller's graph is unchanged; the layer returns the graph of the kept edges.

    Args:
        in_channels: size of the node vectors; -1 takes it from the first input. For a bipartite graph, a tuple of
            the sizes for sources and targets if the layer uses both.
        out_channels: size of the result of all heads together, as in PyTorch Geometric's ``HGTConv``; a multiple of
            ``heads``.
        heads: number of attention heads.
        bias: add learned biases to values and result.
        pruning: which edges to keep; None keeps all.

    Attributes:
        tightness: how strictly the rule applies in training, from 0 (not at all) to 1 (fully); always fully in
            evaluation.

    Raises:
        ValueError: ``out_channels`` is not a multiple of ``heads``, or ``pruning`` is not a rule.
    """

    maps_per_head = 1
    """Number of softmax maps per head; the first maps of all heads come before the second ones."""
    edge_dim: int | None = None
    """Number of edge features; None if the layer takes none, or scores themselves."""
    lin_score: nn.Linear | None
    """The map from edge features to scores; a subclass may make its own."""
    dropout = 0.0
    """Probability with which an entry of a softmax map is dropped in training."""

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
        self.lin_score = None
        self.lin_value = make_linear(both_sizes(in_channels)[0], out_channels, bias=bias)
        self.lin_out = nn.Linear(out_channels, out_channels, bias=bias)

    @property
    def maps(self) -> int:
        """Number of softmax maps."""
        return self.maps_per_head * self.heads

    # --- for subclasses to override ----------------------------------------------------------------------------------

    def scores(self, source: Tensor, target: Tensor | None, graph: Graph, scores: Scores | None) -> Scores:
        """Scores of the edges of a graph; by default ``scores``, those from edge features alone.

        Args:
            source: vectors of the sources, shape [sources, in_channels].
            target: vectors of the targets; ``source`` itself unless the graph is bipartite; None if targets have none.
            graph: the graph.
            scores: scores from edge features, if any.

        Raises:
            ValueError: ``scores`` is None.
        """
        if scores is None:
            raise ValueError(f"{type(self).__name__} weighs edges by their features: give edge_attr, or scores")
        return scores

    def weigh(self, *maps: Tensor) -> Tensor:
        r"""Weights of edges from the :attr:`maps_per_head` softmax maps, each of shape [heads, \*edges]. An
        override must be linear, because it is also applied to sums (:meth:`~iagraph.graph.Graph.attend`).
        """
        (alpha,) = maps
        return alpha

    def weights(self, maps: Tensor) -> Tensor:
        """:meth:`weigh` for all maps in one tensor, ``[maps, ...]`` to ``[heads, ...]``. Called on sums or maps by
        ``DenseGraph.attend``, on maps by ``PrunableGraph.attend`` and, with a rule or hooks, by this layer.
        """
        if maps.ndim == 2:  # lists are stored edge by edge; with this split, so are their gradients
            return self.weigh(*(one.t() for one in maps.t().chunk(self.maps_per_head, dim=1)))
        return self.weigh(*maps.chunk(self.maps_per_head))

    def project(self, sums: Tensor) -> Tensor:
        """The result, shape [nodes, out_channels], from the sums of all heads."""
        return self.lin_out(sums)

    def feature_scores(self, edge_attr: Tensor | None) -> Tensor | None:
        """Scores from edge features, shape [edges, maps]; without ``lin_score`` the features themselves.

        Features of shape [edges] count as one feature per edge.
        """
        if edge_attr is None or self.lin_score is None:
            return edge_attr
        return self.lin_score(edge_attr if edge_attr.ndim > 1 else edge_attr.unsqueeze(1))

    # --- the layer ---------------------------------------------------------------------------------------------------

    def attend(
        self, x: Tensor | tuple[Tensor, Tensor | None], graph: Any, scores: Scores | None = None
    ) -> AttentionOutput:
        """Runs the layer on a graph of any form.

        Args:
            x: node vectors, shape [nodes, in_channels], or a tuple (vectors of sources, vectors of targets).
            graph: a :class:`~iagraph.graph.Graph`; with a rule it must be a :class:`~iagraph.graph.PrunableGraph`, with
                hooks or an explainer a :class:`~iagraph.graph.SparseGraph`.
            scores: scores from edge features, as returned by the graph's :meth:`~iagraph.graph.Graph.scores`.

        Raises:
            ValueError: there are hooks and no list of edges, an explainer and a rule, or scores are missing.
        """
        source, target = (x, x) if isinstance(x, Tensor) else x
        scores = self.scores(source, target, graph, scores)
        values = self.lin_value(source).unflatten(1, (self.heads, -1))
        drop = self.drop_entries if self.training and self.dropout else None
        watched = self.watched()
        if watched and not isinstance(graph, SparseGraph):
            raise ValueError("hooks and explainers watch messages along a list of edges: jets in slots have none")
        if self.explain and self.pruning is not None:
            raise ValueError(f"explainers mask all edges, but this {type(self).__name__} drops some by its rule")
        if self.pruning is None and not watched:
            sums, alpha = graph.attend(scores, values, self.weights, drop)
            return AttentionOutput(self.project(sums.flatten(1)), graph, alpha)
        graph, maps = self.prune(graph, scores)
        alpha = self.weights(maps if drop is None else drop(maps))
        sums = self._sent(graph, alpha, values) if watched else graph.aggregate(alpha, values)
        return AttentionOutput(self.project(sums.flatten(1)), graph, alpha)

    def prune(self, graph: PrunableGraph, scores: Scores) -> tuple[PrunableGraph, Tensor]:
        r"""The graph with the edges that the rule keeps (all without a rule), and their softmax maps, shape
        [maps, \*edges], which are zero where a head drops an edge that another head keeps.
        """
        maps = graph.softmax(scores)
        if self.pruning is None:
            return graph, maps
        rule = self.pruning.relaxed(self.tightness) if self.training else self.pruning
        kept = rule(self.weights(maps), graph)
        graph, maps, scores, kept = graph.keep(kept.any(0), maps, scores, kept)
        kept = kept.repeat(maps.size(0) // kept.size(0), *[1] * (kept.ndim - 1))
        if rule.renormalize:  # not -inf, because a head may keep none of a node's edges
            maps = graph.softmax(scores.masked_fill(~kept, torch.finfo(scores.dtype).min))
        return graph, maps * kept

    def drop_entries(self, maps: Tensor) -> Tensor:
        """Dropout of the entries of softmax maps."""
        return dropout(maps, self.dropout)

    def forward(
        self,
        x: Tensor | tuple[Tensor, Tensor | None],
        edge_index: Adj,
        edge_attr: Tensor | None = None,
        return_attention_weights: bool | None = None,
        batch: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, ...]]:
        """Runs the layer on any graph.

        No edge is added: include self-loops in ``edge_index`` if a node should see itself.

        Args:
            x: node vectors, or a tuple (vectors of sources, vectors of targets). With a tuple no edge counts as a
                self-edge, so a rule may drop any.
            edge_index: edges, rows (source, target), as a tensor or an ``EdgeIndex``; or a sparse PyTorch tensor, the
                transposed adjacency, shape [targets, sources].
            edge_attr: edge features, shape [edges, edge_dim], or [edges] for a single one; for a sparse adjacency in
                the order of its entries, and by default its values. Values of shape [edges] count as features only if
                ``edge_dim`` is 1.
            return_attention_weights: return ``(out, (edge_index, alpha))`` with the weights, shape [edges, heads], in
                the order of the given edges; a sparse adjacency is returned with the weights as values. With a rule,
                return ``(out, (edge_index, alpha, edge_ids))``: the kept edges, as a tensor, their weights, and their
                indices among the given edges.
            batch: the graph of each target, shape [targets], for rules with a budget per graph; None for a single
                graph.

        Raises:
            ValueError: ``edge_index`` is not a graph of these nodes, vectors or edge features are missing or have wrong
                sizes, or ``batch`` does not fit the targets.
        """
        source, target = (x, x) if isinstance(x, Tensor) else x
        edges = edges_of(edge_index, source.size(0), None if target is None else target.size(0))
        if edge_attr is None and edges.values is not None and (edges.values.ndim > 1 or self.edge_dim == 1):
            edge_attr = edges.values
        self._check_sizes(source, edges.edge_index, edge_attr)
        check_batch(batch, edges.num_targets)
        num_sources = None if isinstance(x, Tensor) else source.size(0)
        num_graphs = 1 if batch is None else 0
        graph = SparseGraph.scored_per_edge(edges.edge_index, edges.num_targets, batch, num_sources, num_graphs)
        scores = self.feature_scores(edge_attr)
        output = self.attend(x, graph, None if scores is None else graph.scores([scores.t()]))
        if not return_attention_weights:
            return output.x
        kept, alpha, edge_ids = output.edge_weights()
        return output.x, (edges.weighted(alpha), alpha) if self.pruning is None else (kept, alpha, edge_ids)

    def _check_sizes(self, source: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> None:
        if torch.compiler.is_compiling():  # checks would specialise the compiled code to these sizes
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

    def watched(self) -> bool:
        """Whether a PyTorch Geometric explainer or a hook watches messages, which are then sent edge by edge, with the
        same result but more slowly.
        """
        return bool(self.explain or any(getattr(self, f"_{name}") for name in HOOKS))

    def _sent(self, graph: SparseGraph, alpha: Tensor, values: Tensor) -> Tensor:
        """Sums of messages, shape [targets, heads, channels]."""
        # propagate_type: (value: Tensor, alpha: Tensor)
        return self.propagate(
            graph.edge_index,
            value=values,
            alpha=alpha.t().to(values.dtype),
            size=(graph.num_sources, graph.num_nodes),
        )

    def message(self, value_j: Tensor, alpha: Tensor) -> Tensor:
        """The value of the source times the weight of the edge."""
        return alpha.unsqueeze(-1) * value_j

    def reset_parameters(self) -> None:
        """Draws new weights."""
        super().reset_parameters()
        for child in self.children():
            if isinstance(child, nn.Linear | Linear | nn.RMSNorm):
                child.reset_parameters()

    def __repr__(self) -> str:
        channels = f"{self.in_channels}, {self.out_channels}"
        rule = "" if self.pruning is None else f", pruning={self.pruning}"
        return f"{type(self).__name__}({channels}, heads={self.heads}, edge_dim={self.edge_dim}{rule})"
