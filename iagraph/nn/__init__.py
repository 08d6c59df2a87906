"""Layers, usable in any PyTorch Geometric model."""

from iagraph.nn.differential_attention_conv import DifferentialAttentionConv
from iagraph.nn.encoders import PairEncoder, ParticleEncoder, Standardize

__all__ = ["DifferentialAttentionConv", "PairEncoder", "ParticleEncoder", "Standardize"]
