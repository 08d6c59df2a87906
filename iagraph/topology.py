"""Who talks to whom: the complete graph of each jet, as dense blocks. Any other graph is a list of edges
(:mod:`iagraph.edge_list`).

Both carry what a layer needs and no more: the unordered pairs of nodes that are to be encoded, how the values of pairs
become values of directed edges, and weighted sums over the edges of a node; the dense blocks have products of queries
and keys and nearest neighbours, too. A layer written over them gives the same numbers on either; tests prove it.
Nothing here knows of physics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from iagraph.dense_blocks import DenseBlock, EdgeScores, exponential_sum, regroup, softmax_sum

MAX_SIZE_CLASSES = 16
"""Graphs of similar size share a dense block: with 16 blocks for 64 jets, padded slots are 1.14 times the real ones."""

WIDE = 16
"""Channels from which on products of values with maps take less time with the channels along the fast axis."""


@dataclass
class CompleteGraph:
    """The complete graph, self-edges included, of each graph of a batch, held as dense blocks of similar size.

    Build it with :meth:`from_ptr`.

    Attributes:
        num_nodes: number of nodes.
        blocks: the dense blocks.
        node_of_slot: the node in each slot of the blocks laid end to end, -1 where a slot is padding.
        slot_of_node: its inverse.
    """

    num_nodes: int
    blocks: list[DenseBlock]
    node_of_slot: Tensor
    slot_of_node: Tensor

    @classmethod
    def from_ptr(cls, ptr: Tensor) -> CompleteGraph:
        """Complete graphs from where each graph's nodes begin and end, shape [graphs + 1]; made on its device."""
        ordered, order = ptr.diff().sort(stable=True)
        multiplicities = ordered.tolist()
        blocks = []
        for begin, end in _size_classes(multiplicities):
            position = _arange(multiplicities[end - 1] if begin < end else 0, ptr)
            node = ptr[:-1][order[begin:end]].unsqueeze(1) + position
            blocks.append(DenseBlock(torch.where(position < ordered[begin:end].unsqueeze(1), node, -1)))
        node_of_slot = torch.cat([block.nodes.flatten() for block in blocks])
        real = (node_of_slot >= 0).nonzero().squeeze(1)
        slot_of_node = torch.empty_like(real).scatter_(0, node_of_slot[real], real)
        return cls(real.numel(), blocks, node_of_slot, slot_of_node)

    @cached_property
    def first(self) -> Tensor:
        """One node of each unordered pair, self-pairs included, block after block; shape [pairs]."""
        return torch.cat([block.pairs.first for block in self.blocks])

    @cached_property
    def second(self) -> Tensor:
        """The other node of each pair, shape [pairs]."""
        return torch.cat([block.pairs.second for block in self.blocks])

    @property
    def pair_counts(self) -> list[int]:
        """The number of pairs of each block."""
        return [block.pairs.first.numel() for block in self.blocks]

    def lift(self, pair_values: Sequence[Tensor]) -> list[EdgeScores]:
        """Values of the pairs of each block, shape [channels, pairs], as scores of directed edges."""
        return [EdgeScores(values, block) for values, block in zip(pair_values, self.blocks, strict=True)]

    def products(
        self, queries: Tensor, keys: Tensor, heads: int, scores: list[EdgeScores] | None = None
    ) -> list[Tensor]:
        """Scalar products of each target's query with the key of each source, per head, plus scores if there are any.

        Args:
            queries: shape [nodes, heads * channels].
            keys: shape [nodes, heads * channels].
            heads: number of heads.
            scores: from :meth:`lift`, one map per head.

        Returns:
            For each block, shape [heads, G, N targets, N sources]; minus infinity as in :attr:`EdgeScores.dense`.
        """
        products = []
        for number, (block, query, key) in enumerate(
            zip(self.blocks, self._padded(queries), self._padded(keys), strict=True)
        ):
            graphs, size = block.nodes.shape
            if scores is None:  # a row for all targets of a graph
                start = torch.where(block.padding, -torch.inf, 0.0).to(query.dtype).unsqueeze(1).repeat(heads, 1, 1)
            else:
                start = scores[number].dense.flatten(0, 1)
            # Products and sum in one pass: the blocks are too large to stay in cache from one to the other.
            queried, asked = _per_head(query, heads).flatten(0, 1), _per_head(key, heads).flatten(0, 1)
            products.append(torch.baddbmm(start, queried, asked.mT).view(heads, graphs, size, size))
        return products

    def aggregate(self, maps: list[Tensor], values: Tensor) -> Tensor:
        r"""Weighted sums over the source nodes of each target, :math:`out_i = \sum_j \alpha_{ij} v_j`, per map.

        Args:
            maps: weights of the edges, for each block of shape [maps, G, N targets, N sources].
            values: shape [nodes, maps * channels].

        Returns:
            Shape [nodes, maps, channels].
        """
        heads = len(maps[0])
        if values.size(1) >= heads * WIDE:
            blocks = [_per_head(value, heads) for value in self._padded(values)]
            return self._by_node([(weights @ value).mT for weights, value in zip(maps, blocks, strict=True)])
        by_channel = self._by_channel(values, heads)
        return self._by_node([value @ weights.mT for weights, value in zip(maps, by_channel, strict=True)])

    def attend(self, scores: list[EdgeScores], values: Tensor) -> Tensor:
        """The same sums as of :meth:`aggregate` with the softmax over the sources as weights, which are not kept.

        Args:
            scores: from :meth:`lift`.
            values: shape [nodes, maps * channels].

        Returns:
            Shape [nodes, maps, channels].
        """
        quotients = self._quotients(scores, values)
        if quotients is not None:
            return quotients
        pieces = zip(scores, self._by_channel(values, len(scores[0].of_pairs)), strict=True)
        return self._by_node([softmax_sum(score.of_pairs, value, score.block) for score, value in pieces])

    def _quotients(self, scores: list[EdgeScores], values: Tensor) -> Tensor | None:
        """The result of :meth:`attend` as sums weighed by exponentials over the sums of these weights, in two thirds of
        the time; None where it would not be precise, or is not meant to be fast: in sixteen bits, or on a GPU, which
        would have to wait for the check.
        """
        maps, dtype = len(scores[0].of_pairs), scores[0].of_pairs.dtype
        full = values.dtype == dtype and dtype in (torch.float32, torch.float64)
        if not full or values.device.type != "cpu" or torch.is_autocast_enabled("cpu") or not self.num_nodes:
            return None
        # The sums of the weights are those of one more channel, of ones.
        with_ones = torch.nn.functional.pad(values.unflatten(1, (maps, -1)), (0, 1), value=1.0).flatten(1)
        pieces = zip(scores, self._by_channel(with_ones, maps), strict=True)
        sums = self._by_node([exponential_sum(score.of_pairs, value, score.block) for score, value in pieces])
        total = sums[:, :, -1:].contiguous()
        # A target whose scores are all far below the largest of others has weights too small to be precise, or none.
        precise = bool(total.amin() >= torch.finfo(dtype).tiny / torch.finfo(dtype).eps)
        return sums[:, :, :-1] / total if precise else None

    @torch.no_grad()
    def nearest(self, points: Tensor, k: int) -> Tensor:
        """The ``k`` nodes of the same graph that are nearest to each node, itself excluded, nearest first.

        Distances are Euclidean, from the points relative to the mean of their graph, where rounding is least. Of nodes
        that are equally far away any may come first.

        Args:
            points: coordinates, shape [nodes, dimensions].
            k: number of neighbours.

        Returns:
            Nodes, shape [nodes, k]; -1 where a graph has no further node.
        """
        pieces = []
        # Sixteen bits cannot tell neighbours apart.
        with torch.autocast(points.device.type, enabled=False):
            points = points if points.dtype == torch.float64 else points.float()
            for block, place in zip(self.blocks, self._padded(points), strict=True):
                distance = distances(place, block)
                shortest, slot = distance.topk(min(k, distance.size(1)), largest=False)
                node = block.nodes.unsqueeze(1).expand_as(distance).gather(2, slot)
                node = torch.where(shortest == torch.inf, -1, node).flatten(0, 1)
                pieces.append(torch.nn.functional.pad(node, (0, k - node.size(1)), value=-1))
        return torch.cat(pieces)[self.slot_of_node]

    def _padded(self, values: Tensor) -> list[Tensor]:
        """Values of nodes, shape [nodes, channels], as blocks [G, N, channels] with zeros in padded slots."""
        slots = regroup(values, self.node_of_slot, self.slot_of_node)
        pieces = slots.split([block.nodes.numel() for block in self.blocks])
        return [
            piece.view(*block.nodes.shape, values.size(1)) for piece, block in zip(pieces, self.blocks, strict=True)
        ]

    def _by_channel(self, values: Tensor, maps: int) -> list[Tensor]:
        """Values of nodes, shape [nodes, maps * channels], as blocks [maps, G, channels, N]: so oriented, products of
        two channels with maps take less than half of the time on a CPU.
        """
        return [block.unflatten(2, (maps, -1)).permute(2, 0, 3, 1) for block in self._padded(values)]

    def _by_node(self, blocks: list[Tensor]) -> Tensor:
        """The inverse, shape [nodes, maps, channels]."""
        slots = torch.cat([block.permute(1, 3, 0, 2).flatten(0, 1) for block in blocks])
        return regroup(slots.flatten(1), self.slot_of_node, self.node_of_slot).view(-1, *slots.shape[1:])


def distances(place: Tensor, block: DenseBlock) -> Tensor:
    """Squared distances of the nodes of each graph, infinite from a node to itself and to padding.

    Args:
        place: coordinates, shape [G, N, dimensions], zero where a slot is padding.
        block: the block.

    Returns:
        Shape [G, N, N].
    """
    real = ~block.padding.unsqueeze(2)
    place = (place - place.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)) * real
    square = place.square().sum(2)
    distance = square.unsqueeze(2) + square.unsqueeze(1) - 2 * place @ place.transpose(1, 2)
    itself = torch.eye(distance.size(1), dtype=torch.bool, device=place.device)
    return distance.masked_fill_(block.padding.unsqueeze(1) | itself, torch.inf)


def _arange(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device)


def _size_classes(ordered: list[int]) -> list[tuple[int, int]]:
    """Cuts ascending sizes into at most MAX_SIZE_CLASSES runs of equally many graphs, at least one, which may have
    none; empty graphs are in none.
    """
    begin = next((k for k, size in enumerate(ordered) if size > 0), len(ordered))
    graphs = len(ordered) - begin
    classes = max(min(MAX_SIZE_CLASSES, graphs), 1)
    return list(pairwise(begin + graphs * k // classes for k in range(classes + 1)))


def _per_head(values: Tensor, heads: int) -> Tensor:
    """Blocks [G, N, heads * channels] as [heads, G, N, channels]."""
    return values.unflatten(2, (heads, -1)).permute(2, 0, 1, 3)
