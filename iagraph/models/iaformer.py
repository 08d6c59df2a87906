"""IAFormer (arXiv 2505.03258): a transformer whose attention comes from pairs of particles alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iagraph.models.attention_tagger import FixedPairs, PairAttentionTagger
from iagraph.nn import DifferentialAttentionConv, PruningRule


class IAFormer(PairAttentionTagger):
    r"""Jet tagger with differential attention over pairs of particles, from
    `"IAFormer" <https://arxiv.org/abs/2505.03258>`_.

    The pair encoder runs once per unordered pair of real particles and is shared by all blocks
    (:class:`~iagraph.models.attention_tagger.AttentionBlock`); the scores of all blocks are linear in its output and
    come from one matrix product. The read-out is the mean over a jet's particles.

    Differences to the authors' code: nothing is padded and nothing attends to padding; a particle's pair with itself is
    marked instead of zero; the read-out does not depend on the order of particles; rapidity instead of
    pseudorapidity, wrapped angles; scaled inputs; beta is a sigmoid instead of a clipped number. It starts at
    :math:`1 - e^{-1/L}` for L blocks; theirs at that number times the exponential of a random product.

    Args:
        node_features: name of the node feature set, a key of :data:`iagraph.kinematics.NODE_FEATURES`.
        pair_features: name of the pair feature set, a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
        num_classes: number of logits per jet.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks L.
        heads: attention heads per block.
        particle_hidden: hidden widths of the particle encoder.
        pair_hidden: hidden widths of the pair encoder.
        pair_width: size of the pair vectors.
        beta_per_head: learn beta for each head instead of each block.
        pruning: which edges of a block survive it and are the candidates of the next (:mod:`iagraph.nn.pruning`); None
            keeps all. The pair encoder sees all pairs even so: what spares it is
            :class:`~iagraph.models.CascadedIAFormer`.

    Raises:
        ValueError: an unknown feature set, no block, or ``width`` is no multiple of ``heads``.
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
        beta_per_head: bool = False,
        pruning: PruningRule | None = None,
    ) -> None:
        super().__init__(
            node_features,
            num_classes,
            width,
            blocks,
            particle_hidden,
            lambda: DifferentialAttentionConv(
                width, width, heads, pair_width, initial_beta(blocks), beta_per_head, pruning
            ),
            FixedPairs(pair_features),
            pair_hidden,
            pair_width,
        )
        self.pair_features = pair_features


def initial_beta(blocks: int) -> float:
    r"""Where beta starts in a network of L blocks: :math:`1 - e^{-1/L}`."""
    return 1 - math.exp(-1 / blocks)
