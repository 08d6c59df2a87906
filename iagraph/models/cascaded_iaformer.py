"""IAFormer whose graph becomes smaller from block to block: what is dropped is never encoded or attended to again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from iagraph.edge_list import EdgeListGraph, fully_connected_ids, unordered_pairs
from iagraph.graphs import JetBatch
from iagraph.kinematics import PAIR_FEATURES, SCALING, feature_names
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.iaformer import initial_beta
from iagraph.nn import DifferentialAttentionConv, PairEncoder, Standardize
from iagraph.nn.attention_conv import Attended
from iagraph.nn.pair_gate import PairGate
from iagraph.nn.pruning import EdgeBudget, PruningRule


class CascadedIAFormer(AttentionTagger):
    r"""IAFormer (arXiv 2505.03258) on a graph that a gate and attention make sparse.

    A gate looks at the raw features of all unordered pairs of a jet, before any encoder, and lets the best of them
    through (:class:`~iagraph.nn.pair_gate.PairGate`). Each block has a pair encoder of its own, which sees the pairs
    that are left, and differential attention with the gate :math:`g` in both maps,

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(\mathbf{w}_1 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij}))
                      - \beta \operatorname{softmax}_j(\mathbf{w}_2 \cdot \mathbf{e}_{ij} + \ln \sigma(g_{ij})),

    so that the gate learns from what the edges it let through are worth. With a rule, the edges that survive a block
    are the candidates of the next. Particles keep the edge with themselves.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder of each block.
        pair_width: size of the pair vectors of a block.
        gate_hidden: hidden width of the gate.
        gate_fraction: fraction of a jet's pairs that the gate lets through, in (0, 1]; 1 lets all through.
        pruning: which edges of a block survive it; None keeps all of them.

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
        pair_hidden: Sequence[int] = (),
        pair_width: int = 64,
        gate_hidden: int = 16,
        gate_fraction: float = 0.2,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: DifferentialAttentionConv(width, width, heads, pair_width, initial_beta(blocks), pruning=pruning),
        )
        self.pair_features = pair_features
        names = (*feature_names(pair_features, PAIR_FEATURES), "is_self")
        self.scale_pairs = Standardize([SCALING[name] for name in names])
        self.gate = PairGate(len(names), gate_hidden, EdgeBudget(fraction=gate_fraction))
        self.pair_encoders = nn.ModuleList(PairEncoder(len(names), pair_hidden, pair_width) for _ in range(blocks))

    def run_blocks(
        self, x: Tensor, jets: JetBatch, edge_index: Tensor | None = None, as_list: bool = False
    ) -> Iterator[Attended]:
        """What each block makes of the particles and of the graph, which is a list of edges from the gate on."""
        given = None if edge_index is None else jets.edge_list(edge_index)
        first, second = unordered_pairs(jets.ptr) if given is None else (given.first, given.second)
        features = self.scale_pairs(jets.edge_features(self.pair_features, first, second).t())
        features = features.to(self.head.weight.dtype)
        pairs, gate = self.gate(features, first, second, jets.batch)
        features = features.index_select(0, pairs)
        if given is None:  # the edges that are dropped here are not even listed
            first, second = first.index_select(0, pairs), second.index_select(0, pairs)
            graph = EdgeListGraph.from_pairs(first, second, jets.batch, len(jets))
            if as_list:
                graph.edge_ids = fully_connected_ids(graph.edge_index, jets.ptr, jets.batch)
        else:
            graph = given.keep_pairs(pairs)
        for block, conv, encoder in zip(self.blocks, self.convs(), self.pair_encoders, strict=True):
            scores = cast(nn.Linear, conv.lin_score)(encoder(features)) + gate.unsqueeze(1)
            attended = block(x, graph, scores.index_select(0, graph.pair_of_edge))
            yield attended
            x = attended.x
            if conv.pruning is not None:
                graph, pairs = attended.graph.without_idle_pairs()
                features, gate = features.index_select(0, pairs), gate.index_select(0, pairs)
