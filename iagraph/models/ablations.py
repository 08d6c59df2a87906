"""Ablations of IAFormer: the skeleton stays, parts are removed or replaced to measure what they contribute.

They follow the comparisons of arXiv 2505.03258, from IAFormer to plain attention: :class:`LearnedPairIAFormer` learns
its pair features, :class:`PairTransformer` lacks the second attention map, :class:`InteractionTransformer` adds queries
and keys to the pairs as in ParT, :class:`PlainTransformer` lacks the pairs. All default to the sizes of IAFormer.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from iagraph.models.attention_tagger import AttentionTagger, LearnedPairs, PairAttentionTagger
from iagraph.models.iaformer import IAFormer
from iagraph.nn import AttentionConv, InteractionAttentionConv, PairAttentionConv


class PlainTransformer(AttentionTagger):
    r"""Attention from queries and keys alone, :math:`\operatorname{softmax}_j(q_i \cdot k_j / \sqrt{d})`.

    Args:
        As in :class:`~iagraph.models.attention_tagger.AttentionTagger`.
    """

    def init_conv(self, width: int, heads: int, blocks: int) -> AttentionConv:  # type: ignore[override]
        """Plain attention."""
        return InteractionAttentionConv(width, width, heads)


class InteractionTransformer(PairAttentionTagger):
    r"""Attention from queries, keys and a bias from pair features,
    :math:`\operatorname{softmax}_j(q_i \cdot k_j / \sqrt{d} + w \cdot I_{ij})`.

    Args:
        As in :class:`~iagraph.models.attention_tagger.PairAttentionTagger`.
    """

    def init_conv(self, width: int, heads: int, blocks: int, pair_width: int) -> AttentionConv:  # type: ignore[override]
        """Attention with a bias from pairs."""
        return InteractionAttentionConv(width, width, heads, pair_width)


class PairTransformer(PairAttentionTagger):
    r"""Attention from pair features alone, without the differential term,
    :math:`\operatorname{softmax}_j(w \cdot I_{ij})`.

    Args:
        As in :class:`~iagraph.models.attention_tagger.PairAttentionTagger`.
    """

    def init_conv(self, width: int, heads: int, blocks: int, pair_width: int) -> AttentionConv:  # type: ignore[override]
        """One softmax map."""
        return PairAttentionConv(width, width, heads, pair_width)


class LearnedPairIAFormer(IAFormer):
    """IAFormer with pair features learned from the particles' vectors
    (:class:`~iagraph.models.attention_tagger.LearnedPairs`).

    Args:
        As in :class:`~iagraph.models.IAFormer`, without ``pair_features``.
    """

    fixed = ("pair_features",)
    """Arguments of the base class that this class does not take."""

    def __init__(self, node_features: str = "kin", *sizes: Any, **options: Any) -> None:
        super().__init__(node_features, "", *sizes, **options)

    def init_pairs(self) -> nn.Module:
        """Pair features from the particles' vectors."""
        return LearnedPairs(self.head.in_features)
