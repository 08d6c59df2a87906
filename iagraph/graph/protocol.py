r"""What layers, rules and gates ask of a graph.

Three forms give the same numbers. :class:`~iagraph.graph.DenseGraph` holds complete graphs in blocks of similar size,
which is the fastest on a CPU; :class:`~iagraph.graph.PaddedGraph` one table for all graphs, of a shape that does not
depend on what it holds, for GPUs, ``torch.compile`` and ONNX; :class:`~iagraph.graph.SparseGraph` any list of edges.

Values of edges have the maps or heads in front and the edges behind, ``[maps, *edges]``: ``*edges`` is ``[edges]`` for
a list and ``[graphs, targets, sources]`` for a table. Scores are opaque to layers: a form may hold them otherwise. An
edge leads from its source to its target, the sum over which is made for each target. Nothing here knows of physics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor
from torch_geometric.utils import scatter

Scores = Any
"""Scores of directed edges, as :meth:`Graph.scores` or :meth:`Graph.dot` gives them."""

Weigh = Callable[[Tensor], Tensor]
"""Weights of heads from softmax maps, ``[maps, ...]`` to ``[heads, ...]``; linear, so that it may as well be applied to
sums that the maps weigh."""


class Graph(ABC):
    """A batch of graphs.

    Attributes:
        num_nodes: number of nodes at which edges arrive.
        num_graphs: number of graphs.
        batch: the graph of each node, shape [nodes].
        first, second: the unordered pairs of nodes whose values make scores, each once, shape [pairs]; a node with
            itself is one of them where that edge is part of the graph.
        pair_counts: numbers of pairs in the pieces in which values of pairs come.
    """

    num_nodes: int
    num_graphs: int
    batch: Tensor
    first: Tensor
    second: Tensor
    pair_counts: Sequence[int]

    @property
    def counted_pairs(self) -> Tensor | None:
        """True for the pairs that are part of the graph, shape [pairs]; None if all are."""
        return None

    @abstractmethod
    def scores(self, pair_values: Sequence[Tensor]) -> Scores:
        """Scores of directed edges from values of unordered pairs, in pieces of shape [maps, pairs]."""

    @abstractmethod
    def dot(self, queries: Tensor, keys: Tensor, heads: int, scores: Scores | None = None) -> Scores:
        r"""Scores of edges :math:`q_i \cdot k_j`, plus others if there are any.

        Args:
            queries: of the targets, shape [targets, heads * channels].
            keys: of the sources, shape [sources, heads * channels].
            heads: number of heads.
            scores: one map per head.
        """

    @abstractmethod
    def attend(
        self, scores: Scores, values: Tensor, weigh: Weigh, dropout: Weigh | None = None
    ) -> tuple[Tensor, Tensor | None]:
        r"""Weighted sums over the sources of each target,
        :math:`\sum_j \operatorname{weigh}(\operatorname{softmax}_j(s_{ij})) \, v_j`.

        Args:
            scores: of the edges.
            values: of the sources, shape [sources, heads, channels].
            weigh: makes weights of heads from the softmax maps.
            dropout: drops entries of the maps before.

        Returns:
            Sums, shape [targets, heads, channels], and the weights, shape [heads, \*edges], or None where they are not
            kept.
        """

    @abstractmethod
    def keep_strongest_pairs(self, strength: Tensor, number: Callable[[Any], Any]) -> tuple[Graph, Tensor]:
        """The graph with the strongest pairs of each graph alone, and those of a node with itself.

        Args:
            strength: of the pairs, shape [pairs].
            number: how many to keep of a number of pairs of different nodes, or of several numbers in a tensor.

        Returns:
            The graph, and the place of each of its pairs among those that there were, shape [kept pairs]. A form whose
            shape is fixed keeps pairs that count no more (:attr:`counted_pairs`).
        """

    @abstractmethod
    def with_tokens(self) -> Graph:
        """The graph in which each graph has one more node, its token, at which alone edges arrive: from itself and from
        all others. Its sources are the tokens followed by the nodes, its targets the tokens.
        """

    def mean(self, x: Tensor) -> Tensor:
        """Means over the nodes of each graph, zero without any; [nodes, channels] to [graphs, channels]."""
        return scatter(x, self.batch, 0, self.num_graphs, "mean")


class PrunableGraph(Graph):
    """A graph that knows its edges one by one, so that some can be dropped.

    Attributes:
        is_self: True for the edges of a node with itself, shape that of the edges or one that broadcasts to it.
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
        r"""True for the strongest edges of each target or graph; of equal ones the first in order count as stronger.

        Args:
            strength: shape [columns, \*edges].
            number: of edges, of each graph shape [graphs].
            per: among the edges of what.

        Returns:
            Shape [columns, \*edges].
        """

    @abstractmethod
    def cumulative(self, strength: Tensor) -> tuple[Tensor, Tensor]:
        r"""For each edge the sum of the stronger ones of its target, and the sum of all of them.

        Args:
            strength: none negative, shape [columns, \*edges].

        Returns:
            Two of the same shape, or that broadcast to it.
        """

    @abstractmethod
    def edges_between(self) -> Tensor:
        """The number of edges between different nodes of each graph, shape [graphs]."""

    @abstractmethod
    def keep(self, edges: Tensor, *values: Tensor) -> tuple[Any, ...]:
        r"""The graph with some of its edges and the same pairs, and values of these edges.

        Args:
            edges: True for those that stay, shape [\*edges].
            values: of edges, shape [columns, \*edges].
        """

    @abstractmethod
    def without_idle_pairs(self) -> tuple[Any, Tensor]:
        """The graph with the pairs that its edges need, and the place of each among those that there were."""
