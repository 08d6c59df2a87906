"""Who takes part in the comparison of speed: our models and their rivals, each with what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmark.rivals import EdgeListIAFormer, PaddedIAFormer, edge_list_inputs, padded_inputs
from benchmark.weaver_networks import WeaverParticleNet, WeaverParticleTransformer, weaver_inputs, with_weights
from iagraph.jets import JetBatch
from iagraph.models import GatedIAFormer, IAFormer, ParticleNet, ParticleTransformer

SLOTS = 128
"""What padded layouts pad a jet to; of a larger jet everybody gets its hardest particles."""

SEED = 1
"""Of the weights."""


@dataclass
class Contender:
    """A network, and what it gets.

    Attributes:
        model: the network.
        prepare: makes its arguments of jets, as its loader would; not part of what is timed.
    """

    model: nn.Module
    prepare: Callable[[JetBatch], tuple[Any, ...]]


def iaformer() -> IAFormer:
    """IAFormer of the size at which it is compared."""
    torch.manual_seed(SEED)
    return IAFormer("kinpid", "iaformer", width=32, blocks=4, heads=16, pair_hidden=(256, 128), pair_width=64)


def lite() -> GatedIAFormer:
    """IAFormer with few edges, as configs/qg_lite.yaml makes it."""
    torch.manual_seed(SEED)
    return GatedIAFormer(
        "kinpid",
        "invariant",
        width=32,
        blocks=3,
        heads=8,
        particle_hidden=(128, 64),
        pair_hidden=(64,),
        pair_width=64,
        gate_hidden=16,
        gate_fraction=0.2,
    )


def particle_transformer() -> ParticleTransformer:
    """ParT as published."""
    torch.manual_seed(SEED)
    return ParticleTransformer("kinpid")


def particle_net() -> ParticleNet:
    """ParticleNet as published."""
    torch.manual_seed(SEED)
    return ParticleNet("kinpid")


def _ours(model: nn.Module) -> Contender:
    return Contender(model, lambda jets: (jets,))


def _padded_iaformer() -> Contender:
    model = iaformer()
    return Contender(PaddedIAFormer(model), lambda jets: padded_inputs(model, jets, SLOTS))


def _edge_list_iaformer() -> Contender:
    model = iaformer()
    return Contender(EdgeListIAFormer(model), lambda jets: edge_list_inputs(model, jets))


def _weaver(model: ParticleTransformer | ParticleNet) -> Contender:
    network = WeaverParticleTransformer if isinstance(model, ParticleTransformer) else WeaverParticleNet
    return Contender(with_weights(network(13, 2), model), lambda jets: weaver_inputs(model, jets, SLOTS))


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "IAFormer, iagraph": lambda: _ours(iaformer()),
    "IAFormer, reference layout": _padded_iaformer,
    "IAFormer, plain PyG": _edge_list_iaformer,
    "IAFormer lite, iagraph": lambda: _ours(lite()),
    "ParT, iagraph": lambda: _ours(particle_transformer()),
    "ParT, weaver": lambda: _weaver(particle_transformer()),
    "ParticleNet, iagraph": lambda: _ours(particle_net()),
    "ParticleNet, weaver": lambda: _weaver(particle_net()),
}
"""How each is made, by model and implementation; all of one model with the same weights."""
