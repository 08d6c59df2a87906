"""Layers, usable in any PyTorch Geometric model."""

from iagraph.nn.attention_conv import AttentionConv
from iagraph.nn.differential_attention_conv import DifferentialAttentionConv
from iagraph.nn.differential_transformer_conv import DifferentialTransformerConv
from iagraph.nn.edge_conv import EdgeConv
from iagraph.nn.encoders import BatchNorm, PairEncoder, ParticleEncoder, Standardize, ThinLinear
from iagraph.nn.interaction_attention_conv import InteractionAttentionConv
from iagraph.nn.pair_attention_conv import PairAttentionConv
from iagraph.nn.pair_gate import PairGate
from iagraph.nn.pruning import EdgeBudget, PruningRule, Threshold, TopK, TopP, pruning_rule
from iagraph.nn.softmax_difference import SoftmaxDifference

__all__ = [
    "AttentionConv",
    "BatchNorm",
    "DifferentialAttentionConv",
    "DifferentialTransformerConv",
    "EdgeBudget",
    "EdgeConv",
    "InteractionAttentionConv",
    "PairAttentionConv",
    "PairEncoder",
    "PairGate",
    "ParticleEncoder",
    "PruningRule",
    "SoftmaxDifference",
    "Standardize",
    "ThinLinear",
    "Threshold",
    "TopK",
    "TopP",
    "pruning_rule",
]
