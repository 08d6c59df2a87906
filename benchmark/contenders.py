"""Models in the speed comparison, ours and others', each with its inputs."""

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
"""Slots of padded layouts; all models get only the hardest particles of larger jets."""

SEED = 1
"""Seed of the weights."""


@dataclass
class Contender:
    """A network with its inputs.

    Attributes:
        model: the network.
        prepare: makes its arguments from jets, as its loader would; not timed.
    """

    model: nn.Module
    prepare: Callable[[JetBatch], tuple[Any, ...]]


def iaformer() -> IAFormer:
    """IAFormer of the size used in comparisons."""
    torch.manual_seed(SEED)
    return IAFormer("kinpid", "iaformer", width=32, blocks=4, heads=16, pair_hidden=(256, 128), pair_width=64)


def lite() -> GatedIAFormer:
    """IAFormer with few edges, as in configs/qg_lite.yaml."""
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
"""Factories by model and implementation; all implementations of a model have the same weights."""
