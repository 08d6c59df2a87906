"""IAFormer (arXiv 2505.03258): a transformer whose attention comes from pairs of particles alone."""

from __future__ import annotations

import math

from iagraph.models.attention_tagger import PairAttentionTagger
from iagraph.nn import AttentionConv, DifferentialAttentionConv, PruningRule


class IAFormer(PairAttentionTagger):
    r"""Jet tagger with differential attention over pairs of particles, from
    `"IAFormer" <https://arxiv.org/abs/2505.03258>`_.

    .. math::
        \alpha_{ij} = \operatorname{softmax}_j(W_1 I_{ij}) - \beta \operatorname{softmax}_j(W_2 I_{ij})

    (:class:`~iagraph.nn.DifferentialAttentionConv`). The pair encoder, from pair features to :math:`I_{ij}`, runs once
    per unordered pair of real particles and is shared by all blocks
    (:class:`~iagraph.models.attention_network.AttentionBlock`); the scores of all blocks are linear in its output and
    come from one matrix product. The read-out is the mean over a jet's particles.

    Differences from the authors' code: nothing is padded and nothing attends to padding; self-pairs are marked instead
    of being zero; the read-out does not depend on the order of particles; rapidity instead of pseudorapidity, wrapped
    angles; scaled inputs; beta is a sigmoid instead of a clipped number. It starts at :math:`1 - e^{-1/L}` for L
    blocks; theirs starts at that number times the exponential of a random product.

    Args:
        node_features, pair_features, num_classes, width, blocks, heads, particle_hidden, pair_hidden, pair_width: as in
            :class:`~iagraph.models.attention_tagger.PairAttentionTagger`.
        beta_per_head: learn beta for each head instead of each block.
        pruning: which edges a block keeps for itself and the following ones (:mod:`iagraph.nn.pruning`); None keeps
            all. The pair encoder still sees all pairs, unlike that of :class:`~iagraph.models.CascadedIAFormer`.

    Raises:
        ValueError: an unknown feature set, no block, or ``width`` is not a multiple of ``heads``.
    """

    def init_conv(  # type: ignore[override]
        self,
        width: int,
        heads: int,
        blocks: int,
        pair_width: int,
        beta_per_head: bool = False,
        pruning: PruningRule | None = None,
    ) -> AttentionConv:
        """Differential attention."""
        return DifferentialAttentionConv(width, width, heads, pair_width, initial_beta(blocks), beta_per_head, pruning)


def initial_beta(blocks: int) -> float:
    r"""The initial beta in a network of L blocks: :math:`1 - e^{-1/L}`."""
    return 1 - math.exp(-1 / blocks)
