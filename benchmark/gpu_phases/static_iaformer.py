"""IAFormer on jets padded to a fixed number of slots: every shape is known beforehand, nothing depends on the data."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from iagraph.benchmarks.rivals import padded
from iagraph.graphs import JetBatch
from iagraph.kinematics import Momenta, pair_columns
from iagraph.models import IAFormer
from iagraph.models.attention_tagger import AttentionBlock, FixedPairs
from iagraph.nn import DifferentialAttentionConv


class PaddedJets(NamedTuple):
    """Jets in slots.

    Attributes:
        particles: scaled node features, shape [jets, slots, features].
        momenta: transverse momentum, rapidity, angle and mass, shape [jets, slots, 4].
        jet: transverse momentum and energy of each jet, shape [jets, 2].
        mask: where there are particles, shape [jets, slots].
    """

    particles: Tensor
    momenta: Tensor
    jet: Tensor
    mask: Tensor

    @classmethod
    def of(cls, model: IAFormer, jets: JetBatch, slots: int) -> PaddedJets:
        """The jets as the static form of a model takes them.

        Raises:
            ValueError: a jet has more particles than slots.
        """
        features = model.scale_particles(jets.node_features(model.node_features))
        sums = jets.sums()
        ones = torch.ones_like(features[:, :1])
        return cls(
            padded(features, jets, slots),
            padded(torch.stack(list(jets.momenta), dim=1), jets, slots),
            torch.stack([sums.pt, sums.energy], dim=1),
            padded(ones, jets, slots).squeeze(2).bool(),
        )


class StaticIAFormer(nn.Module):
    """A model's network over padded jets; unordered pairs of slots are encoded once, and shared by all blocks.

    Args:
        model: whose weights to use.
        slots: number of slots N; there are N (N + 1) / 2 pairs.
    """

    first: Tensor
    second: Tensor
    pair: Tensor
    is_self: Tensor

    def __init__(self, model: IAFormer, slots: int) -> None:
        super().__init__()
        self.model = model
        first, second = torch.triu_indices(slots, slots)
        pair = torch.empty(slots, slots, dtype=torch.long)
        pair[first, second] = pair[second, first] = torch.arange(first.numel())
        buffers = {"first": first, "second": second, "pair": pair, "is_self": (first == second).float()}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, particles: Tensor, momenta: Tensor, jet: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape [jets, classes], of :class:`PaddedJets`."""
        x = self.model.particle_encoder(particles.flatten(0, 1)).unflatten(0, particles.shape[:2])
        outside = ~mask[:, None, None, :]
        for block, scores in zip(self.model.blocks, self._scores(momenta, jet), strict=True):
            x = _run(cast(AttentionBlock, block), x, scores.masked_fill(outside, torch.finfo(scores.dtype).min))
        real = mask.unsqueeze(2).to(x)
        mean = (x * real).sum(1) / real.sum(1).clamp(min=1)
        with torch.autocast(x.device.type, enabled=False):
            return self.model.head(mean.to(self.model.head.weight.dtype))

    def _scores(self, momenta: Tensor, jet: Tensor) -> list[Tensor]:
        """The scores of each block, shape [jets, maps, targets, sources]."""
        first, second = (Momenta(*momenta[:, index].unbind(2)) for index in (self.first, self.second))
        pt, energy = jet.unsqueeze(2).unbind(1)
        inputs = cast(FixedPairs, self.model.pair_inputs)
        columns = pair_columns(inputs.name, first, second, pt, energy)
        features = torch.stack([*columns, self.is_self.expand_as(columns[0])], dim=2)
        # One list of pairs, as the first linear map takes it.
        encoded = self.model.pair_encoder(inputs.scale(features).flatten(0, 1))
        linears = [cast(nn.Linear, conv.lin_score) for conv in self.model.convs()]
        weight = torch.cat([linear.weight for linear in linears])
        scores = nn.functional.linear(encoded, weight).unflatten(0, (len(jet), -1)).transpose(1, 2)
        of_edges = scores.index_select(2, self.pair.flatten()).unflatten(2, self.pair.shape)
        return list(of_edges.split([linear.out_features for linear in linears], dim=1))


def _run(block: AttentionBlock, x: Tensor, scores: Tensor) -> Tensor:
    """A block over all slots, shape [jets, slots, width]."""
    conv = cast(DifferentialAttentionConv, block.conv)
    alpha = conv.mix(scores.softmax(-1), dim=1)
    values = conv.lin_value(block.norm_in(x)).unflatten(2, (conv.heads, -1)).transpose(1, 2)
    sums = (alpha.to(values.dtype) @ values).transpose(1, 2).flatten(2)
    x = x + block.norm_out(conv.lin_out(sums))
    return x + block.feed_forward(x)
