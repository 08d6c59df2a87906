"""Which particles decide: relevance by several methods, which to believe, and PyTorch Geometric's explainers."""

from iagraph.studies.attribution.deletion import deletion_logits, faithfulness, relative_area
from iagraph.studies.attribution.evidence import evidence
from iagraph.studies.attribution.explainable import MODEL_CONFIG, AbsoluteAttentionExplainer, Explainable
from iagraph.studies.attribution.gradients import (
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    layerwise_relevance,
)
from iagraph.studies.attribution.propagation import linear_rules
from iagraph.studies.attribution.section import study

__all__ = [
    "MODEL_CONFIG",
    "AbsoluteAttentionExplainer",
    "Explainable",
    "deletion_logits",
    "evidence",
    "faithfulness",
    "grad_cam",
    "gradient_times_input",
    "integrated_gradients",
    "layerwise_relevance",
    "linear_rules",
    "relative_area",
    "study",
]
