"""Attention blocks over a graph of any form, with or without pair features: skeleton of all variants of IAFormer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from iagraph.graph import Graph
from iagraph.graph.protocol import Scores
from iagraph.kernels.linear import plain
from iagraph.kernels.pair_scores import pair_scores
from iagraph.nn import AttentionConv, ParticleEncoder
from iagraph.nn.attention_conv import AttentionOutput


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

    def forward(self, x: Tensor, graph: Graph, scores: Scores | None) -> AttentionOutput:
        """New node vectors, and the graph of the kept edges; arguments as in :meth:`AttentionConv.attend`."""
        output = self.conv.attend(self.norm_in(x), graph, scores)
        x = x + self.norm_out(output.x)
        return output._replace(x=x + self.feed_forward(x))


class AttentionNetwork(nn.Module):
    """Node encoder, attention blocks, mean over the nodes of each graph, and a linear map to the result.

    A variant defines its attention in :meth:`init_conv`. If scores come from pairs, it also sets ``pair_encoder``.

    Args:
        node_channels: number of node features.
        out_channels: size of the result for each graph.
        width: size of the node vectors, a multiple of ``heads``.
        blocks: number of blocks.
        heads: attention heads per block.
        particle_hidden: hidden widths of the node encoder.
        options: further arguments of :meth:`init_conv`.

    Raises:
        ValueError: there is no block, or ``width`` is not a multiple of ``heads``.
    """

    pair_encoder: Any

    def __init__(
        self,
        node_channels: int,
        out_channels: int,
        width: int,
        blocks: int,
        heads: int,
        particle_hidden: Sequence[int],
        **options: Any,
    ) -> None:
        super().__init__()
        self.pair_encoder = None
        if blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {blocks}")
        self.particle_encoder = ParticleEncoder(node_channels, particle_hidden, width)
        self.blocks = nn.ModuleList(
            AttentionBlock(width, self.init_conv(width, heads, blocks, **options)) for _ in range(blocks)
        )
        self.head = nn.Linear(width, out_channels)

    def init_conv(self, width: int, heads: int, blocks: int, **options: Any) -> AttentionConv:
        """The attention layer of one block, ``width`` channels in and out; ``blocks`` is the number of all blocks."""
        raise NotImplementedError

    def run_blocks(
        self, x: Tensor, graph: Graph, pairs: Tensor | None = None, bias: Tensor | None = None
    ) -> Iterator[AttentionOutput]:
        """The output of each block. A block sees the edges that the previous one kept.

        Args:
            x: node vectors before the first block, shape [nodes, width].
            graph: the graph.
            pairs: features of the graph's pairs, shape [pairs, channels], if attention uses them.
            bias: term that a gate adds to all scores of each kept pair, shape [pairs].
        """
        for block, scores in zip(self.blocks, self.pair_scores(graph, pairs, bias), strict=True):
            output = block(x, graph, None if scores is None else graph.scores(scores))
            x, graph = output.x, output.graph
            yield output

    def pair_scores(self, graph: Graph, pairs: Tensor | None, bias: Tensor | None) -> Sequence[Sequence[Tensor] | None]:
        """Scores of pairs for each block, in pieces of shape [maps, pairs]; None without pairs. They are linear in the
        encoder's output, so the encoder runs once for all blocks.
        """
        if self.pair_encoder is None or pairs is None:
            return [None] * len(self.blocks)
        counts, linears = list(graph.pair_counts), [cast(nn.Linear, conv.lin_score) for conv in self.convs()]
        scores: Sequence[Sequence[Tensor]]
        if all(plain(linear) and linear.bias is None for linear in linears):
            scores = pair_scores(pairs, self.pair_encoder, [linear.weight for linear in linears], counts)
        else:  # adapters, or hooks such as those of torch.nn.utils.prune
            encoded = self.pair_encoder(pairs)
            scores = [linear(encoded).t().split(counts, dim=1) for linear in linears]
        if bias is None:
            return scores
        biases = bias.split(counts)
        return [[piece + of_piece for piece, of_piece in zip(each, biases, strict=True)] for each in scores]

    def read_out(self, x: Tensor, graph: Graph) -> Tensor:
        """The result, shape [graphs, out_channels], from node vectors, shape [nodes, width]."""
        # 16 bits would round the scores of many graphs to the same number.
        with torch.autocast(x.device.type, enabled=False):
            return self.head(graph.mean(x.to(self.dtype)))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights, in which the network computes, whatever the precision of its input."""
        return next(self.particle_encoder.parameters()).dtype

    def convs(self) -> list[AttentionConv]:
        """The attention layers, first block first."""
        return [module for module in self.modules() if isinstance(module, AttentionConv)]

    @property
    def drops_edges(self) -> bool:
        """Whether the network drops edges, by a rule or a gate."""
        return any(conv.pruning is not None for conv in self.convs())
