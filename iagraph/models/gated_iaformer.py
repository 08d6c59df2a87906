"""IAFormer behind a gate: of a jet's pairs only the most promising are encoded and attended to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from iagraph.edge_list import EdgeListGraph, fully_connected_ids, unordered_pairs
from iagraph.graphs import JetBatch
from iagraph.kinematics import PAIR_FEATURES, SCALING, feature_names
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.iaformer import initial_beta
from iagraph.nn import DifferentialAttentionConv, PairEncoder, Standardize
from iagraph.nn.attention_conv import Attended
from iagraph.nn.pair_gate import PairGate
from iagraph.nn.pruning import EdgeBudget


class GatedPairs(nn.Module):
    """The pairs of jets that a gate lets through, their features, and the graph that they make.

    Args:
        name: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        hidden: hidden width of the gate.
        fraction: fraction of a jet's pairs that the gate lets through, in (0, 1].

    Attributes:
        channels: number of features of a pair; the last one marks the pairs of a particle with itself.

    Raises:
        ValueError: an unknown feature set, or a fraction out of range.
    """

    def __init__(self, name: str, hidden: int, fraction: float) -> None:
        super().__init__()
        self.name = name
        names = (*feature_names(name, PAIR_FEATURES), "is_self")
        self.channels = len(names)
        self.scale = Standardize([SCALING[name] for name in names])
        self.gate = PairGate(len(names), hidden, EdgeBudget(fraction=fraction))

    def forward(
        self, jets: JetBatch, edge_index: Tensor | None, numbered: bool
    ) -> tuple[EdgeListGraph, Tensor, Tensor]:
        r"""The graph, and what is known of its pairs.

        Args:
            jets: the jets.
            edge_index: which particles see which, if not all of a jet; shape [2, edges].
            numbered: tell the place of each edge among those of ``fully_connected(jets.ptr)`` where none are given.

        Returns:
            The graph, the scaled features of its pairs, shape [pairs, channels], and :math:`\ln \sigma(g)` of the gate
            for each, shape [pairs].
        """
        given = None if edge_index is None else jets.edge_list(edge_index)
        first, second = unordered_pairs(jets.ptr) if given is None else (given.first, given.second)
        features = self.scale(jets.edge_features(self.name, first, second).t())
        features = features.to(self.gate.lin.weight.dtype)
        pairs, bias = self.gate(features, first, second, jets.batch)
        if given is None:  # the edges that are dropped here are not even listed
            first, second = first.index_select(0, pairs), second.index_select(0, pairs)
            graph = EdgeListGraph.from_pairs(first, second, jets.batch, len(jets))
            if numbered:
                graph.edge_ids = fully_connected_ids(graph.edge_index, jets.ptr, jets.batch)
        else:
            graph = given.keep_pairs(pairs)
        return graph, features.t().index_select(1, pairs).t(), bias  # along the axis that lies in memory


class GatedIAFormer(AttentionTagger):
    r"""IAFormer (arXiv 2505.03258) on the pairs that a gate lets through.

    The gate (:class:`~iagraph.nn.PairGate`) looks at the raw features of all unordered pairs of a jet, and lets the
    best of them through. Encoder and attention see these alone. The gate :math:`g` stands in both maps of attention,

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w}_1 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij}))
                      - \beta \operatorname{softmax}_j(\mathbf{w}_2 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij})),

    so that it learns what the edges that it let through are worth. Particles keep the edge with themselves.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder, which all blocks share.
        pair_width: size of the pair vectors.
        gate_hidden: hidden width of the gate.
        gate_fraction: fraction of a jet's pairs that the gate lets through, in (0, 1]; 1 lets all through.

    Raises:
        ValueError: an unknown feature set, no block, ``width`` is no multiple of ``heads``, or a fraction out of range.
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
        gate_hidden: int = 16,
        gate_fraction: float = 0.2,
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: DifferentialAttentionConv(width, width, heads, pair_width, initial_beta(blocks)),
        )
        self.pair_features = pair_features
        self.gated_pairs = GatedPairs(pair_features, gate_hidden, gate_fraction)
        self.pair_encoder = PairEncoder(self.gated_pairs.channels, pair_hidden, pair_width)

    def run_blocks(
        self, x: Tensor, jets: JetBatch, edge_index: Tensor | None = None, as_list: bool = False
    ) -> Iterator[Attended]:
        """What each block makes of the particles, and of the graph that the gate lets through."""
        graph, features, bias = self.gated_pairs(jets, edge_index, as_list)
        weights = [cast(nn.Linear, conv.lin_score).weight for conv in self.convs()]
        scores = self.pair_encoder(features) @ torch.stack(weights).mT + bias.unsqueeze(1)
        for block, own in zip(self.blocks, scores, strict=True):
            attended = block(x, graph, own.index_select(0, graph.pair_of_edge))
            x, graph, _ = attended
            yield attended
