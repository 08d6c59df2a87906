"""What a model does with jets, and why: functions of a model and a :class:`~iagraph.jets.JetBatch`.

Models are in evaluation mode, jets on their device, unless it says otherwise. Nothing here knows of runs or files.
"""

from iagraph.interpret.attention_maps import MeanMaps, jet_maps
from iagraph.interpret.cka import LayerSimilarity, linear_cka
from iagraph.interpret.deletion import deletion_logits, faithfulness, relative_area
from iagraph.interpret.display import draw_jets, shown_jet
from iagraph.interpret.edges import find_kept_edges
from iagraph.interpret.explainers import MODEL_CONFIG, AbsoluteAttentionExplainer, Explainable
from iagraph.interpret.heads import ablate_heads, keep_heads, mean_sums, patch
from iagraph.interpret.interventions import Head, run_changed, sites, trace
from iagraph.interpret.live import live_jet
from iagraph.interpret.pair_features import ablate_pair_features
from iagraph.interpret.particles import keep, ranks, species, take
from iagraph.interpret.perturbations import drop_particles, drop_soft, smear_direction, smear_pt
from iagraph.interpret.probes import class_probe, regression_probe
from iagraph.interpret.propagation import linear_rules
from iagraph.interpret.recording import node_vectors, record_attention, recorded
from iagraph.interpret.relevance import (
    evidence,
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    layerwise_relevance,
)
from iagraph.interpret.zeroing import zero_beta, zero_content, zero_pairs, zeroings

__all__ = [
    "AbsoluteAttentionExplainer",
    "Explainable",
    "Head",
    "LayerSimilarity",
    "MODEL_CONFIG",
    "MeanMaps",
    "ablate_heads",
    "ablate_pair_features",
    "class_probe",
    "deletion_logits",
    "draw_jets",
    "drop_particles",
    "drop_soft",
    "evidence",
    "faithfulness",
    "find_kept_edges",
    "grad_cam",
    "gradient_times_input",
    "integrated_gradients",
    "jet_maps",
    "keep",
    "keep_heads",
    "layerwise_relevance",
    "linear_cka",
    "linear_rules",
    "live_jet",
    "mean_sums",
    "node_vectors",
    "patch",
    "ranks",
    "record_attention",
    "recorded",
    "regression_probe",
    "relative_area",
    "run_changed",
    "shown_jet",
    "sites",
    "smear_direction",
    "smear_pt",
    "species",
    "take",
    "trace",
    "zero_beta",
    "zero_content",
    "zero_pairs",
    "zeroings",
]
