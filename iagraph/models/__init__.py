"""Jet taggers, each readable beside its paper."""

from iagraph.models.ablations import InteractionTransformer, LearnedPairIAFormer, PairTransformer, PlainTransformer
from iagraph.models.cascaded_iaformer import CascadedIAFormer
from iagraph.models.checkpoints import CheckpointError, load_weights
from iagraph.models.gated_iaformer import GatedIAFormer
from iagraph.models.graph_transformer import GraphTransformer
from iagraph.models.iaformer import IAFormer
from iagraph.models.particle_net import ParticleNet
from iagraph.models.particle_transformer import ParticleTransformer
from iagraph.models.weaver import load_weaver, save_weaver

__all__ = [
    "CascadedIAFormer",
    "CheckpointError",
    "GatedIAFormer",
    "GraphTransformer",
    "IAFormer",
    "InteractionTransformer",
    "LearnedPairIAFormer",
    "PairTransformer",
    "ParticleNet",
    "ParticleTransformer",
    "PlainTransformer",
    "load_weaver",
    "load_weights",
    "save_weaver",
]
