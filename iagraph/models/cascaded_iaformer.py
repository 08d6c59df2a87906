"""IAFormer whose graph becomes smaller from block to block: what is dropped is never encoded or attended to again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from iagraph.graphs import JetBatch
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.gated_iaformer import GatedPairs
from iagraph.models.iaformer import initial_beta
from iagraph.nn import DifferentialAttentionConv, PairEncoder, PruningRule
from iagraph.nn.attention_conv import Attended


class CascadedIAFormer(AttentionTagger):
    r"""IAFormer (arXiv 2505.03258) on a graph that a gate, and then attention, make sparse.

    As :class:`~iagraph.models.GatedIAFormer`, but each block has a pair encoder of its own, which sees the pairs that
    are left. With a rule, the edges that survive a block are the candidates of the next.

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
        self.gated_pairs = GatedPairs(pair_features, gate_hidden, gate_fraction)
        self.pair_encoders = nn.ModuleList(
            PairEncoder(self.gated_pairs.channels, pair_hidden, pair_width) for _ in range(blocks)
        )

    def run_blocks(
        self, x: Tensor, jets: JetBatch, edge_index: Tensor | None = None, as_list: bool = False
    ) -> Iterator[Attended]:
        """What each block makes of the particles and of the graph, which is a list of edges from the gate on."""
        graph, features, bias = self.gated_pairs(jets, edge_index, as_list)
        for block, conv, encoder in zip(self.blocks, self.convs(), self.pair_encoders, strict=True):
            scores = cast(nn.Linear, conv.lin_score)(encoder(features)) + bias.unsqueeze(1)
            attended = block(x, graph, scores.index_select(0, graph.pair_of_edge))
            x = attended.x
            yield attended
            if conv.pruning is not None and block is not self.blocks[-1]:
                graph, pairs = attended.graph.without_idle_pairs()
                features, bias = features.index_select(0, pairs), bias.index_select(0, pairs)
