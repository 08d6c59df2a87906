"""Jet taggers, each readable beside its paper."""

from iagraph.models.ablations import InteractionTransformer, LearnedPairIAFormer, PairTransformer, PlainTransformer
from iagraph.models.iaformer import IAFormer
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ParticleTransformer

__all__ = [
    "IAFormer",
    "InteractionTransformer",
    "LearnedPairIAFormer",
    "PairTransformer",
    "ParticleNet",
    "ParticleTransformer",
    "PlainTransformer",
]
