"""The skeleton that IAFormer and its ablations share: they differ in their attention and what it knows of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch_geometric.nn.aggr import MeanAggregation

from iagraph.edge_list import EdgeListGraph
from iagraph.graphs import JetBatch
from iagraph.kinematics import NODE_FEATURES, PAIR_FEATURES, SCALING, feature_names
from iagraph.nn import AttentionConv, PairEncoder, ParticleEncoder, Standardize
from iagraph.nn.attention_conv import Attended, Scores
from iagraph.nn.pair_scores import pair_scores
from iagraph.topology import CompleteGraph

PairScores = Sequence[Tensor] | None
"""Scores of pairs, a piece of shape [maps, pairs] for each block of a graph, or none."""


class AttentionBlock(nn.Module):
    r"""Attention and a feed-forward network, each with a residual connection.

    .. math::
        x \leftarrow x + \mathrm{LN}(\mathrm{Attention}(\mathrm{LN}(x))), \qquad x \leftarrow x + \mathrm{FFN}(x)

    with FFN = LN, linear to four times the width, GELU, LN, linear back.

    Args:
        width: size of the node vectors.
        conv: the attention layer, from ``width`` to ``width``.
    """

    def __init__(self, width: int, conv: AttentionConv) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.conv = conv
        self.norm_out = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.LayerNorm(4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, graph: CompleteGraph | EdgeListGraph, scores: Scores) -> Attended:
        """New node vectors, and what the attention left of the graph; scores as in :meth:`AttentionConv.attend`."""
        attended = self.conv.attend(self.norm_in(x), graph, scores)
        x = x + self.norm_out(attended.x)
        return attended._replace(x=x + self.feed_forward(x))


class LayerWeights(NamedTuple):
    """What is left of the graph after a layer.

    Attributes:
        edge_index: the edges, rows (source, target), shape [2, edges].
        alpha: their weights, shape [edges, heads].
        edge_ids: which they are of the edges given, or of those of ``fully_connected(jets.ptr)``.
    """

    edge_index: Tensor
    alpha: Tensor
    edge_ids: Tensor


class AttentionTagger(nn.Module):
    """Particle encoder, attention blocks, mean over a jet's particles, linear map to logits.

    Attention sees no pairs here; :class:`PairAttentionTagger` adds them.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors.
        blocks: number of blocks.
        particle_hidden: hidden widths of the particle encoder.
        make_conv: makes the attention layer of a block.

    Raises:
        ValueError: an unknown feature set, or no block.
    """

    def __init__(
        self,
        node_features: str,
        num_classes: int,
        width: int,
        blocks: int,
        particle_hidden: Sequence[int],
        make_conv: Callable[[], AttentionConv],
    ) -> None:
        super().__init__()
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {blocks}")
        self.node_features = node_features
        names = feature_names(node_features, NODE_FEATURES)
        self.scale_particles = Standardize([SCALING[name] for name in names])
        self.particle_encoder = ParticleEncoder(len(names), particle_hidden, width)
        self.blocks = nn.ModuleList(AttentionBlock(width, make_conv()) for _ in range(blocks))
        self.readout = MeanAggregation()
        self.head = nn.Linear(width, num_classes)

    def forward(
        self, jets: JetBatch, edge_index: Tensor | None = None, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, list[LayerWeights]]:
        """Logits of jets.

        Args:
            jets: the jets. One without particles gets the bias of the last layer.
            edge_index: which particles see which, rows (source, target), if not all of a jet; shape [2, edges].
            return_attention_weights: return ``(logits, weights)``, with what is left of the graph after each block.

        Returns:
            Shape [jets, num_classes].

        Raises:
            ValueError: an edge joins two jets.
        """
        # The weights' precision counts, whatever that of the jets.
        features = self.scale_particles(jets.node_features(self.node_features)).to(self.head.weight.dtype)
        weights = []
        for x, graph, alpha in self.run_blocks(  # noqa: B007, for the last x is what counts
            self.particle_encoder(features), jets, edge_index, as_list=return_attention_weights
        ):
            if return_attention_weights:
                assert isinstance(graph, EdgeListGraph)
                assert alpha is not None
                weights.append(LayerWeights(graph.edge_index, alpha, graph.edge_ids))
        logits = self.read_out(x, jets)
        return (logits, weights) if return_attention_weights else logits

    def read_out(self, x: Tensor, jets: JetBatch) -> Tensor:
        """Logits of jets, shape [jets, num_classes], from vectors of their particles, shape [particles, width]."""
        # Sixteen bits would round the scores of many jets to the same number.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(self.readout(x.to(self.head.weight.dtype), jets.batch, dim_size=len(jets)))

    def run_blocks(
        self, x: Tensor, jets: JetBatch, edge_index: Tensor | None = None, as_list: bool = False
    ) -> Iterator[Attended]:
        """What each block makes of the particles and of the graph.

        Args:
            x: vectors of the particles before the first block, shape [particles, width].
            jets: the jets.
            edge_index: as in :meth:`forward`.
            as_list: hold complete graphs as lists of edges, too, for their weights.
        """
        as_list = as_list or any(conv.pruning for conv in self.convs())
        graph = jets.edge_list(edge_index) if as_list else jets.graph(edge_index)
        for block, scores in zip(self.blocks, self.pair_scores(x, jets, graph), strict=True):
            attended = block(x, graph, None if scores is None else graph.lift(scores))
            x, graph, _ = attended
            yield attended

    def pair_scores(self, x: Tensor, jets: JetBatch, graph: CompleteGraph | EdgeListGraph) -> Sequence[PairScores]:
        """For each block, the scores of the pairs of ``graph`` as its ``lift`` takes them, or None.

        Args:
            x: vectors of the particles before the first block, shape [particles, width].
            jets: the jets.
            graph: their graph.
        """
        return [None] * len(self.blocks)

    def convs(self) -> list[AttentionConv]:
        """The attention layers, first block first."""
        return [module for module in self.modules() if isinstance(module, AttentionConv)]


class FixedPairs(nn.Module):
    """Pair features by name, scaled; the last one marks the pairs of a particle with itself.

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

    def forward(self, x: Tensor, jets: JetBatch, graph: CompleteGraph | EdgeListGraph) -> Tensor:
        """Shape [pairs, channels]; of the particles' vectors ``x`` only the precision counts."""
        return self.scale(jets.edge_features(self.name, graph.first, graph.second).t()).to(x)


class LearnedPairs(nn.Module):
    r"""What two particles' vectors have in common and what tells them apart, whatever their order.

    .. math::
        (\mathbf{x}_i + \mathbf{x}_j, \; |\mathbf{x}_i - \mathbf{x}_j|, \; \delta_{ij})

    Args:
        width: size of the particles' vectors.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = 2 * width + 1

    def forward(self, x: Tensor, jets: JetBatch, graph: CompleteGraph | EdgeListGraph) -> Tensor:
        """Shape [pairs, channels], from the particles' vectors ``x`` before the first block."""
        first, second = embedding(graph.first, x), embedding(graph.second, x)
        is_self = (graph.first == graph.second).to(x).unsqueeze(1)
        return torch.cat([first + second, (first - second).abs(), is_self], dim=1)


class PairAttentionTagger(AttentionTagger):
    """The skeleton with a pair encoder, run once per unordered pair and shared by all blocks.

    The scores of all blocks are linear in its output and come from one matrix product.

    Args:
        node_features, num_classes, width, blocks, particle_hidden: as in :class:`AttentionTagger`.
        make_conv: makes the attention layer of a block; its ``lin_score`` takes vectors of size ``pair_width``.
        pair_inputs: what the encoder gets to know of a pair, :class:`FixedPairs` or :class:`LearnedPairs`.
        pair_hidden: hidden widths of the pair encoder.
        pair_width: size of the pair vectors.
    """

    def __init__(
        self,
        node_features: str,
        num_classes: int,
        width: int,
        blocks: int,
        particle_hidden: Sequence[int],
        make_conv: Callable[[], AttentionConv],
        pair_inputs: FixedPairs | LearnedPairs,
        pair_hidden: Sequence[int],
        pair_width: int,
    ) -> None:
        super().__init__(node_features, num_classes, width, blocks, particle_hidden, make_conv)
        self.pair_inputs = pair_inputs
        self.pair_encoder = PairEncoder(pair_inputs.channels, pair_hidden, pair_width)

    def pair_scores(self, x: Tensor, jets: JetBatch, graph: CompleteGraph | EdgeListGraph) -> Sequence[PairScores]:
        """Scores of pairs from their encoded vectors."""
        linears = [cast(nn.Linear, conv.lin_score) for conv in self.convs()]
        weight = torch.cat([linear.weight for linear in linears])
        of_all = pair_scores(self.pair_inputs(x, jets, graph), self.pair_encoder, weight, graph.pair_counts)
        return list(zip(*(piece.split([linear.out_features for linear in linears]) for piece in of_all), strict=True))
