"""Attention networks for jets; variants differ in their attention and its pair features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from iagraph.graph import Graph
from iagraph.jets import JetBatch, JetInput, PaddedJets, jets_and_edges
from iagraph.kinematics import NODE_FEATURES, PAIR_FEATURES, SCALING, feature_names
from iagraph.models.attention_network import AttentionNetwork
from iagraph.nn import PairEncoder, Standardize

Pairs = tuple[Graph, Tensor | None, Tensor | None]
"""A graph; features of its pairs, shape [pairs, channels], or None; a bias for each pair's scores, [pairs], or None."""


class AttentionTagger(AttentionNetwork):
    """Jets in, logits out; attention without pair features.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        options: further arguments of :meth:`init_conv`.

    Raises:
        ValueError: an unknown feature set, no block, or ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        node_features: str = "kin",
        num_classes: int = 2,
        width: int = 32,
        blocks: int = 4,
        heads: int = 16,
        particle_hidden: Sequence[int] = (256, 128),
        **options: Any,
    ) -> None:
        names = feature_names(node_features, NODE_FEATURES)
        super().__init__(len(names), num_classes, width, blocks, heads, particle_hidden, **options)
        self.node_features = node_features
        self.scale_particles = Standardize([SCALING[name] for name in names])

    def forward(
        self, jets: JetInput, edge_index: Tensor | None = None, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, list[tuple[Tensor, Tensor, Tensor]]]:
        """Logits of jets.

        Args:
            jets: the jets, as a batch or as graphs of PyTorch Geometric. A jet without particles gets the bias of the
                last layer.
            edge_index: edges within jets, rows (source, target), shape [2, edges]; None for those of the graphs, if
                any, or else all edges.
            return_attention_weights: return ``(logits, weights)``, with ``(edge_index, alpha, edge_ids)`` for each
                block: the kept edges, their weights, shape [edges, heads], and their indices among the given edges or,
                if none are given, among those of ``fully_connected(jets.ptr)``.

        Returns:
            Shape [jets, num_classes].

        Raises:
            ValueError: an edge joins two jets, the graphs are not jets, or weights are requested for jets in slots.
        """
        jets, edge_index = jets_and_edges(jets, edge_index)
        features = self.scale_particles(jets.node_features(self.node_features)).to(self.dtype)
        x = self.particle_encoder(features)
        if return_attention_weights and isinstance(jets, PaddedJets):
            raise ValueError("jets in slots have no list of edges: request attention weights with a JetBatch")
        # Rules and hooks need individual edges, as in a list; otherwise dense blocks are faster.
        needs_edges = self.needs_edges() or return_attention_weights
        graph = jets.prunable_graph(edge_index) if needs_edges else jets.graph(edge_index)
        weights = []
        for output in self.run_blocks(x, *self.look_at_pairs(x, graph, jets)):
            x = output.x
            if return_attention_weights:
                weights.append(output.edge_weights())
        logits = self.read_out(x, graph)
        return (logits, weights) if return_attention_weights else logits

    def needs_edges(self) -> bool:
        """Whether a rule or a hook needs individual edges."""
        return any(conv.pruning is not None or conv.watched() for conv in self.convs())

    def look_at_pairs(self, x: Tensor, graph: Graph, jets: JetBatch) -> Pairs:
        """The graph with the pairs that attention uses, the features of these pairs, and their bias.

        Args:
            x: vectors of the particles before the first block, shape [particles, width].
            graph: the graph of the jets.
            jets: the jets.
        """
        return graph, None, None


class FixedPairs(nn.Module):
    """The scaled pair features of a named set; the last one flags self-pairs.

    Args:
        name: a key of :data:`iagraph.kinematics.PAIR_FEATURES`.

    Raises:
        ValueError: an unknown feature set.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        names = (*feature_names(name, PAIR_FEATURES), "is_self")
        self.channels = len(names)
        self.scale = Standardize([SCALING[name] for name in names])

    def forward(self, x: Tensor, graph: Graph, jets: JetBatch) -> Tensor:
        """Features, shape [pairs, channels], in the precision of ``x``; its values are not used."""
        return self.scale(jets.edge_features(self.name, graph.first, graph.second).t()).to(x)


class LearnedPairs(nn.Module):
    r"""Symmetric features of a pair, from the vectors of its two particles.

    .. math::
        (\mathbf{x}_i + \mathbf{x}_j, \; |\mathbf{x}_i - \mathbf{x}_j|, \; \delta_{ij})

    Args:
        width: size of the particles' vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = 2 * width + 1

    def forward(self, x: Tensor, graph: Graph, jets: JetBatch) -> Tensor:
        """Features, shape [pairs, channels], from the particles' vectors ``x`` before the first block."""
        first, second = embedding(graph.first, x), embedding(graph.second, x)
        is_self = (graph.first == graph.second).to(x).unsqueeze(1)
        return torch.cat([first + second, (first - second).abs(), is_self], dim=1)


class PairAttentionTagger(AttentionTagger):
    """Jets in, logits out; scores come from pair features, encoded once and shared by all blocks.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder.
        pair_width: size of the pair vectors.
        options: further arguments of :meth:`init_conv`.

    Raises:
        ValueError: an unknown feature set, no block, or ``width`` is not a multiple of ``heads``.
    """

    def __init__(
        self,
        node_features: str = "kin",
        pair_features: str = "invariant",
        num_classes: int = 2,
        width: int = 32,
        blocks: int = 4,
        heads: int = 16,
        particle_hidden: Sequence[int] = (256, 128),
        pair_hidden: Sequence[int] = (256, 128),
        pair_width: int = 64,
        **options: Any,
    ) -> None:
        sizes = (num_classes, width, blocks, heads, particle_hidden)
        super().__init__(node_features, *sizes, pair_width=pair_width, **options)
        self.pair_features = pair_features
        self.pair_inputs: Any = self.init_pairs()
        self.init_encoder(pair_hidden, pair_width)

    def init_pairs(self) -> nn.Module:
        """Makes the module that computes the inputs of the pair encoder."""
        return FixedPairs(self.pair_features)

    def init_encoder(self, hidden: Sequence[int], width: int) -> None:
        """Makes the pair encoder."""
        self.pair_encoder = PairEncoder(self.pair_inputs.channels, hidden, width)

    def look_at_pairs(self, x: Tensor, graph: Graph, jets: JetBatch) -> Pairs:
        """See :meth:`AttentionTagger.look_at_pairs`."""
        return graph, self.pair_inputs(x, graph, jets), None
