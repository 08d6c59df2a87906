"""IAFormer with parts taken away or exchanged, on the same skeleton, to see what they bring.

After the comparisons of arXiv 2505.03258. From IAFormer to plain attention: :class:`LearnedPairIAFormer` learns what a
pair is, :class:`PairTransformer` lacks the second attention map, :class:`InteractionTransformer` has queries and keys
beside the pairs, as ParT does, :class:`PlainTransformer` lacks the pairs. All default to the sizes of IAFormer.
"""

from __future__ import annotations

from collections.abc import Sequence

from iagraph.models.attention_tagger import AttentionTagger, FixedPairs, LearnedPairs, PairAttentionTagger
from iagraph.models.iaformer import initial_beta
from iagraph.nn import DifferentialAttentionConv, InteractionAttentionConv, PairAttentionConv


class PlainTransformer(AttentionTagger):
    r"""Attention from queries and keys alone, :math:`\operatorname{softmax}_j(q_i \cdot k_j / \sqrt{d})`.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
    """

    def __init__(
        self,
        node_features: str = "kin",
        num_classes: int = 2,
        width: int = 32,
        blocks: int = 4,
        heads: int = 16,
        particle_hidden: Sequence[int] = (256, 128),
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: InteractionAttentionConv(width, width, heads),
        )


class InteractionTransformer(PairAttentionTagger):
    r"""Attention from queries, keys and a bias from pair features,
    :math:`\operatorname{softmax}_j(q_i \cdot k_j / \sqrt{d} + w \cdot I_{ij})`.

    Args:
        node_features: as in :class:`PlainTransformer`, like ``num_classes`` to ``particle_hidden``.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder.
        pair_width: size of the pair vectors.
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
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: InteractionAttentionConv(width, width, heads, pair_width),
            FixedPairs(pair_features),
            pair_hidden,
            pair_width,
        )
        self.pair_features = pair_features


class PairTransformer(PairAttentionTagger):
    r"""Attention from pair features alone, without the differential term,
    :math:`\operatorname{softmax}_j(w \cdot I_{ij})`.

    Args:
        As :class:`InteractionTransformer`.
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
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: PairAttentionConv(width, width, heads, pair_width),
            FixedPairs(pair_features),
            pair_hidden,
            pair_width,
        )
        self.pair_features = pair_features


class LearnedPairIAFormer(PairAttentionTagger):
    """IAFormer that learns what a pair is from its particles' vectors
    (:class:`~iagraph.models.attention_tagger.LearnedPairs`), instead of being told by pair features.

    Args:
        As :class:`InteractionTransformer`, without ``pair_features``.
    """

    def __init__(
        self,
        node_features: str = "kin",
        num_classes: int = 2,
        width: int = 32,
        blocks: int = 4,
        heads: int = 16,
        particle_hidden: Sequence[int] = (256, 128),
        pair_hidden: Sequence[int] = (256, 128),
        pair_width: int = 64,
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: DifferentialAttentionConv(width, width, heads, pair_width, initial_beta(blocks)),
            LearnedPairs(width),
            pair_hidden,
            pair_width,
        )
