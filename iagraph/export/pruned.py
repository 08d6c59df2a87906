"""Models that drop edges, over jets in slots: pairs that a gate drops are not encoded, edges that a rule drops weigh
nothing. Who is dropped is decided as by the rules of :mod:`iagraph.nn.pruning`, by sorting rows of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from iagraph.export.padded import PaddedGraph, PaddedJets
from iagraph.models.attention_tagger import AttentionBlock, AttentionTagger
from iagraph.models.cascaded_iaformer import CascadedIAFormer
from iagraph.models.gated_iaformer import GatedIAFormer, GatedPairs
from iagraph.nn import AttentionConv, EdgeBudget, PruningRule, Threshold, TopK, TopMass


def drops_edges(model: AttentionTagger) -> bool:
    """Whether a model drops edges, by a gate or by a rule."""
    return isinstance(model, GatedIAFormer | CascadedIAFormer) or any(conv.pruning for conv in model.convs())


def run_pruned_blocks(model: AttentionTagger, x: Tensor, jets: PaddedJets) -> Tensor:
    """What the blocks of a model that drops edges make of particles' vectors, shape [slots of all jets, width]."""
    if isinstance(model, CascadedIAFormer):
        return _run_cascaded(model, x, jets)
    if isinstance(model, GatedIAFormer):
        pairs = gated_pairs(model.gated_pairs, jets)
        graph = pairs.graph
        weights = torch.stack([cast(nn.Linear, conv.lin_score).weight for conv in model.convs()])
        scores = list((model.pair_encoder(pairs.features) @ weights.mT + pairs.bias.unsqueeze(1)).mT)
    else:
        graph = jets.graph()
        scores = [piece for (piece,) in cast(Sequence[Sequence[Tensor]], model.pair_scores(x, jets, graph))]
    kept = graph.edges
    for block, own in zip(cast(Sequence[AttentionBlock], model.blocks), scores, strict=True):
        x, kept = _run_block(block, x, graph, own, kept)
    return x


def _run_cascaded(model: CascadedIAFormer, x: Tensor, jets: PaddedJets) -> Tensor:
    pairs = gated_pairs(model.gated_pairs, jets)
    kept = pairs.graph.edges
    for block, encoder in zip(cast(Sequence[AttentionBlock], model.blocks), model.pair_encoders, strict=True):
        linear = cast(nn.Linear, block.conv.lin_score)
        scores = linear(encoder(pairs.features)).t() + pairs.bias
        x, kept = _run_block(block, x, pairs.graph, scores, kept)
        if block.conv.pruning is not None and block is not model.blocks[-1]:
            pairs = pairs.choose((kept | kept.mT).triu())
    return x


class Pairs(NamedTuple):
    """A graph, and what is known of its pairs.

    Attributes:
        graph: the graph.
        features: scaled features of its pairs, shape [pairs, channels].
        bias: what the gate adds to all scores of a pair, shape [pairs].
    """

    graph: PaddedGraph
    features: Tensor
    bias: Tensor

    def choose(self, chosen: Tensor) -> Pairs:
        """Some of them, as :class:`~iagraph.dense_blocks.DenseBlock` takes them."""
        edge_of_pair, _ = self.graph.block.pairs.edge_of_pair
        pairs = chosen.flatten().index_select(0, edge_of_pair).nonzero().squeeze(1)
        graph = PaddedGraph(~self.graph.block.padding, chosen)
        return Pairs(graph, self.features.index_select(0, pairs), self.bias.index_select(0, pairs))


def gated_pairs(gated: GatedPairs, jets: PaddedJets) -> Pairs:
    """What :class:`~iagraph.models.gated_iaformer.GatedPairs` lets through."""
    graph = jets.graph()
    features = gated.scale(jets.edge_features(gated.name, graph.first, graph.second).t())
    rating = gated.gate.rate(features)
    between = graph.edges.triu(1)
    number = gated.gate.budget.number(between.sum((1, 2))).unsqueeze(1)
    (rated,) = graph.lift([rating.t()])[0].dense
    best = _strongest(rated.where(between, -torch.inf).flatten(1), number).view_as(between)
    pairs = Pairs(graph, features, logsigmoid(rating.squeeze(1)))
    return pairs.choose(best & between | graph.edges & _itself(graph))


def _run_block(
    block: AttentionBlock, x: Tensor, graph: PaddedGraph, scores: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """New vectors, and the edges that are left, from scores of pairs, shape [maps, pairs], and the edges there were."""
    pieces = graph.lift([scores])
    if block.conv.pruning is None:
        return block(x, graph, pieces).x, kept
    attended, kept = _attend(block.conv, block.norm_in(x), graph, pieces[0].dense, kept)
    x = x + block.norm_out(attended)
    return x + block.feed_forward(x), kept


def _attend(conv: AttentionConv, x: Tensor, graph: PaddedGraph, scores: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """What :meth:`AttentionConv.attend` of a layer with a rule makes of scores [maps, jets, targets, sources]."""
    rule = cast(PruningRule, conv.pruning)
    to_padding = graph.block.padding.unsqueeze(2)  # sees any particle: a softmax over nothing would be no numbers
    scores = scores.where(kept | to_padding, -torch.inf)
    maps = scores.softmax(-1)
    strength = conv.mix(maps, dim=0).abs()
    if not rule.per_head:
        strength = strength.mean(0, keepdim=True)
    itself = _itself(graph)
    candidates = kept & ~itself
    wanted = kept & itself | candidates & _choose(rule, strength.where(candidates, -torch.inf), candidates)
    kept = wanted.any(0)
    wanted = wanted.repeat(maps.size(0) // wanted.size(0), 1, 1, 1)
    if rule.renormalize:
        lowest = torch.finfo(scores.dtype).min  # finite, for a head may want none of a node's edges
        maps = scores.where(wanted, lowest).where(kept | to_padding, -torch.inf).softmax(-1)
    sums = graph.aggregate([conv.mix(maps * wanted, dim=0)], conv.lin_value(x))
    return conv.lin_out(sums.flatten(1)), kept


def _choose(rule: PruningRule, strength: Tensor, candidates: Tensor) -> Tensor:
    """What a rule wants of edges, shape [columns, jets, targets, sources]; strength is minus infinity elsewhere.

    Raises:
        TypeError: there is no such form of this rule.
    """
    if isinstance(rule, Threshold):
        return strength >= rule.minimum
    if isinstance(rule, TopK):
        return _strongest(strength, rule.k)
    if isinstance(rule, EdgeBudget):
        number = rule.number(candidates.sum((1, 2))).unsqueeze(1)
        return _strongest(strength.flatten(2), number).view_as(strength)
    if isinstance(rule, TopMass):
        if rule.share == 1:
            return torch.ones_like(strength, dtype=torch.bool)
        ordered, order = strength.clamp(min=0).double().sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        share = torch.tensor(rule.share, dtype=torch.float64, device=strength.device)  # see EdgeBudget.number
        wanted = before < share * ordered.sum(-1, keepdim=True)
        return torch.zeros_like(strength, dtype=torch.bool).scatter(-1, order, wanted)
    raise TypeError(f"{type(rule).__name__} cannot be exported; give a rule of iagraph.nn.pruning")


def _strongest(values: Tensor, number: Tensor | int) -> Tensor:
    """True for so many of the largest values along the last axis; of equal ones the first in order."""
    order = values.sort(dim=-1, descending=True, stable=True).indices
    first = torch.arange(values.size(-1), device=values.device) < number
    return torch.zeros_like(values, dtype=torch.bool).scatter(-1, order, first.expand_as(order))


def _itself(graph: PaddedGraph) -> Tensor:
    """True for the edges of nodes with themselves, shape [targets, sources]."""
    return torch.eye(graph.block.nodes.size(1), dtype=torch.bool, device=graph.block.nodes.device)
