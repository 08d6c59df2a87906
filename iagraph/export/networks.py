"""Trained models over jets in slots: their own weights and layers, in a form that can be exported."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from iagraph.export.padded import PaddedJets
from iagraph.export.pruned import drops_edges, run_pruned_blocks
from iagraph.export.slots import view_of_slots
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ClassAttentionBlock, ParticleTransformer
from iagraph.nn import EdgeConv
from iagraph.views import WHOLE, JetView


class PaddedTagger(nn.Module):
    """A model as it is exported: from four-momenta in slots to probabilities and logits.

    Args:
        model: one of :mod:`iagraph.models`; its weights are shared, not copied.
        view: what it sees of jets.
    """

    def __init__(self, model: nn.Module, view: JetView = WHOLE) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Probabilities and logits, each of shape [jets, classes]; inputs as in :class:`PaddedJets`."""
        seen = view_of_slots(self.view, four_momenta, num_particles, pid, impact)
        logits = padded_logits(self.model, PaddedJets(*seen))
        return logits.softmax(1), logits


def padded_logits(model: nn.Module, jets: PaddedJets) -> Tensor:
    """Logits of a model for jets in slots, shape [jets, classes].

    Raises:
        TypeError: there is no such form of this model.
    """
    if isinstance(model, AttentionTagger):
        return _attention_tagger(model, jets)
    if isinstance(model, ParticleTransformer):
        return _particle_transformer(model, jets)
    if isinstance(model, ParticleNet):
        return _particle_net(model, jets)
    raise TypeError(f"{type(model).__name__} cannot be exported; give one of iagraph.models")


def _attention_tagger(model: AttentionTagger, jets: PaddedJets) -> Tensor:
    x = model.particle_encoder(model.scale_particles(jets.node_features(model.node_features)))
    if drops_edges(model):
        x = run_pruned_blocks(model, x, jets)
    else:
        *_, (x, _, _) = model.run_blocks(x, jets)
    return model.head(jets.mean(x))


def _particle_net(model: ParticleNet, jets: PaddedJets) -> Tensor:
    features, graph = jets.node_features(model.node_features), jets.graph()
    points, x = features[:, model.position], model.particle_norm(model.scale_particles(features))
    for conv in cast(Iterable[EdgeConv], model.convs):
        points = x = conv.convolve(x, graph.nearest(points, model.neighbors))
    return model.head(jets.mean(x))


def _particle_transformer(model: ParticleTransformer, jets: PaddedJets) -> Tensor:
    features, graph = jets.node_features(model.node_features), jets.graph()
    x = model.particle_encoder(model.particle_norm(model.scale_particles(features)))
    bias = model.pair_bias(jets, graph, x.dtype)
    for block in model.blocks:
        x = block(x, graph, bias)
    token = model.class_token.expand(jets.real.size(0), -1)
    for block in cast(Iterable[ClassAttentionBlock], model.class_blocks):
        token = _class_attention(block, token, x.unflatten(0, jets.real.shape), jets.real)
    return model.head(model.norm(token))


def _class_attention(block: ClassAttentionBlock, token: Tensor, x: Tensor, real: Tensor) -> Tensor:
    """:meth:`ClassAttentionBlock.forward` for vectors in slots, [jets, slots, width]."""
    conv = block.conv
    asked = block.norm_in(torch.cat([token.unsqueeze(1), x], dim=1))
    there = torch.cat([real.new_ones(real.size(0), 1), real], dim=1)
    query = conv.query(token).unflatten(1, (conv.heads, 1, -1))
    key, value = (lin(asked).unflatten(2, (conv.heads, -1)).transpose(1, 2) for lin in (conv.lin_key, conv.lin_value))
    scores = (query @ key.mT).masked_fill(~there[:, None, None, :], -torch.inf)
    return block.add(token, conv.lin_out((scores.softmax(-1) @ value).flatten(1)))
