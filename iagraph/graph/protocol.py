r"""The interface of graphs for layers, rules and gates.

Three forms give the same results. :class:`~iagraph.graph.DenseGraph` holds complete graphs in blocks of similar size,
the fastest on a CPU; :class:`~iagraph.graph.PaddedGraph` holds all graphs in one table of static shape, for GPUs,
``torch.compile`` and ONNX; :class:`~iagraph.graph.SparseGraph` is any list of edges.

Values of edges have shape ``[maps, *edges]`` or ``[heads, *edges]`` (``[columns, *edges]`` for either), where
``*edges`` is ``[edges]`` for a list and ``[graphs, targets, sources]`` for a table. Scores are opaque to layers: each
form stores them in its own way. An edge runs from source to target; each target sums over its sources. No physics here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor
from torch_geometric.utils import scatter

Scores = Any
"""Scores of directed edges, from :meth:`Graph.scores` or :meth:`Graph.dot`."""

Weigh = Callable[[Tensor], Tensor]
"""Turns softmax maps ``[maps, ...]`` into weights ``[heads, ...]``; linear, so it also works on sums weighted by the
maps."""


class Graph(ABC):
    """A batch of graphs.

    Attributes:
        num_nodes: number of target nodes.
        num_graphs: number of graphs.
        batch: the graph of each node, shape [nodes].
        first, second: the two nodes of each unordered pair that has scores, shape [pairs]; self-pairs included if the
            graph has self-edges.
        pair_counts: number of pairs in each piece of pair values.
        counted_pairs: True for pairs that are part of the graph, shape [pairs]; None if all are.
    """

    num_nodes: int
    num_graphs: int
    batch: Tensor
    first: Tensor
    second: Tensor
    pair_counts: Sequence[int]
    counted_pairs: Tensor | None = None

    @abstractmethod
    def scores(self, pair_values: Sequence[Tensor]) -> Scores:
        """Scores of directed edges from values of unordered pairs, in :attr:`pair_counts` pieces [maps, pairs]."""

    @abstractmethod
    def dot(self, queries: Tensor, keys: Tensor, heads: int, scores: Scores | None = None) -> Scores:
        r"""Scores :math:`q_i \cdot k_j` of edges, plus ``scores`` if given.

        Args:
            queries: of the targets, shape [targets, heads * channels].
            keys: of the sources, shape [sources, heads * channels].
            heads: number of heads.
            scores: scores to add, one map per head.
        """

    @abstractmethod
    def attend(
        self, scores: Scores, values: Tensor, weigh: Weigh, dropout: Weigh | None = None
    ) -> tuple[Tensor, Tensor | None]:
        r"""Weighted sums over the sources of each target,
        :math:`\sum_j \operatorname{weigh}(\operatorname{softmax}_j(s_{ij})) \, v_j`.

        Args:
            scores: scores of the edges.
            values: of the sources, shape [sources, heads, channels].
            weigh: turns softmax maps into weights of heads.
            dropout: drops entries of the maps, before ``weigh``.

        Returns:
            Sums, shape [targets, heads, channels], and the weights, shape [heads, \*edges], or None if not stored.
        """

    @abstractmethod
    def keep_strongest_pairs(self, strength: Tensor, number: Callable[[Any], Any]) -> tuple[Graph, Tensor]:
        """The graph with only the strongest pairs of each graph, and all self-pairs.

        Args:
            strength: strength of each pair, shape [pairs].
            number: function from a graph's number of pairs of different nodes (int, or tensor of several graphs) to the
                number to keep.

        Returns:
            The new graph, and the old index of each of its pairs, shape [kept pairs]. Forms of fixed shape may still
            hold dropped pairs; :attr:`counted_pairs` marks the real ones.
        """

    @abstractmethod
    def with_tokens(self) -> Graph:
        """The graph with a token added to each graph. Edges lead only to tokens, from the token itself and all nodes of
        its graph. Sources are the tokens, then the nodes; targets are the tokens.
        """

    def nearest(self, points: Tensor, k: int) -> Tensor:
        """The ``k`` nodes of the same graph nearest to each node, itself excluded, nearest first.

        Distances are Euclidean, computed from points relative to the mean of their graph to reduce rounding errors.
        Ties are broken arbitrarily.

        Args:
            points: coordinates, shape [nodes, dimensions].
            k: number of neighbours.

        Returns:
            Nodes, shape [nodes, k]; -1 where a graph has too few nodes.
        """
        raise NotImplementedError(f"{type(self).__name__} does not search neighbours: take a complete graph")

    def mean(self, x: Tensor) -> Tensor:
        """Means over the nodes of each graph, zero if empty; [nodes, channels] to [graphs, channels]."""
        return scatter(x, self.batch, 0, self.num_graphs, "mean")


class PrunableGraph(Graph):
    """A graph with individual edges, some of which can be dropped.

    Attributes:
        is_self: True for self-edges, in the shape of the edges or one that broadcasts to it.
    """

    is_self: Tensor

    @abstractmethod
    def softmax(self, scores: Scores) -> Tensor:
        r"""Softmax over the sources of each target, shape [maps, \*edges]."""

    @abstractmethod
    def aggregate(self, weights: Tensor, values: Tensor) -> Tensor:
        r"""Weighted sums :math:`\sum_j \alpha_{ij} v_j`, per head.

        Args:
            weights: shape [heads, \*edges].
            values: of the sources, shape [sources, heads, channels].

        Returns:
            Shape [targets, heads, channels].
        """

    def attend(
        self, scores: Scores, values: Tensor, weigh: Weigh, dropout: Weigh | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`Graph.attend`."""
        maps = self.softmax(scores)
        weights = weigh(maps if dropout is None else dropout(maps))
        return self.aggregate(weights, values), weights

    @abstractmethod
    def strongest(self, strength: Tensor, number: int | Tensor, per: Literal["target", "graph"]) -> Tensor:
        r"""True for the strongest edges of each target or graph; of equal edges the first wins.

        Args:
            strength: shape [columns, \*edges].
            number: how many edges to choose; per graph, a tensor of shape [graphs].
            per: whether each target or each graph has its own strongest edges.

        Returns:
            Shape [columns, \*edges].
        """

    @abstractmethod
    def cumulative(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        r"""For each edge, the summed strength of the stronger edges of its target, and of all edges of that target.

        Args:
            strength: non-negative, shape [columns, \*edges].

        Returns:
            Two tensors of the shape of ``strength``, or one that broadcasts to it.
        """

    @abstractmethod
    def edges_between(self) -> Tensor:
        """The number of edges between different nodes of each graph, shape [graphs]."""

    @abstractmethod
    def keep(self, edges: Tensor, *values: Tensor) -> tuple[Any, ...]:
        r"""The graph with some of its edges and all its pairs, and the values of the kept edges.

        Args:
            edges: True for those to keep, shape [\*edges].
            values: of edges, shape [columns, \*edges].
        """

    @abstractmethod
    def without_idle_pairs(self) -> tuple[Any, Tensor]:
        """The graph without pairs that no edge uses, and the old index of each pair kept."""
