"""IAFormer whose graph shrinks from block to block: dropped pairs are never encoded or attended to again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from torch import Tensor, nn

from iagraph.models.gated_iaformer import GatedIAFormer
from iagraph.nn import PairEncoder
from iagraph.nn.attention_conv import AttentionOutput


class CascadedIAFormer(GatedIAFormer):
    r"""IAFormer (arXiv 2505.03258) on a graph made sparse by a gate, and then by attention.

    Like :class:`~iagraph.models.GatedIAFormer`, but each block has its own pair encoder, which sees only kept pairs.
    With a pruning rule, each block keeps some of the edges that the previous one kept.

    Args:
        sizes: passed to :class:`~iagraph.models.GatedIAFormer`, as are ``options``.
        pair_hidden: hidden widths of the pair encoder of each block, by keyword only; none by default.
        options: see ``sizes``.

    Raises:
        ValueError: an unknown feature set, no block, a fraction out of range, or ``width`` is not a multiple of
            ``heads``.
    """

    def __init__(self, *sizes: Any, pair_hidden: Sequence[int] = (), **options: Any) -> None:
        super().__init__(*sizes, pair_hidden=pair_hidden, **options)

    def init_encoder(self, hidden: Sequence[int], width: int) -> None:
        """Makes a pair encoder for each block."""
        self.pair_encoders = nn.ModuleList(PairEncoder(self.pair_inputs.channels, hidden, width) for _ in self.blocks)

    def run_blocks(
        self, x: Tensor, graph: Any, pairs: Tensor | None = None, bias: Tensor | None = None
    ) -> Iterator[AttentionOutput]:
        """See :meth:`AttentionNetwork.run_blocks`; a block encodes only the pairs of its edges."""
        assert pairs is not None
        assert bias is not None
        for block, conv, encoder in zip(self.blocks, self.convs(), self.pair_encoders, strict=True):
            scores = cast(nn.Linear, conv.lin_score)(encoder(pairs)).t() + bias
            output = block(x, graph, graph.scores(scores.split(list(graph.pair_counts), dim=1)))
            x, graph = output.x, output.graph
            yield output
            if conv.pruning is not None and block is not self.blocks[-1]:
                graph, index = graph.without_idle_pairs()
                pairs, bias = pairs.index_select(0, index), bias.index_select(0, index)
