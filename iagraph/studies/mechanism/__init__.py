"""What single heads and pair features of a trained model do, and what its layers know, after arXiv 2605.09881."""

from iagraph.studies.mechanism.depths import Depth, depths
from iagraph.studies.mechanism.donors import other_class, rank_match, take, transplant
from iagraph.studies.mechanism.effects import Truth, recovery
from iagraph.studies.mechanism.heads import ablate_heads, ablation, keep_heads, mean_sums, patch, run_all
from iagraph.studies.mechanism.interventions import Head, Site, Trace, changed, heads, resume, run_changed, sites, trace
from iagraph.studies.mechanism.pair_ablation import PairInput, ablate_pair_features, ablated, pair_inputs
from iagraph.studies.mechanism.probes import Regression, class_probe, regression_probe, regression_probes
from iagraph.studies.mechanism.section import study

__all__ = [
    "Depth",
    "Head",
    "PairInput",
    "Regression",
    "Site",
    "Trace",
    "Truth",
    "ablate_heads",
    "ablate_pair_features",
    "ablated",
    "ablation",
    "changed",
    "class_probe",
    "depths",
    "heads",
    "keep_heads",
    "mean_sums",
    "other_class",
    "pair_inputs",
    "patch",
    "rank_match",
    "recovery",
    "regression_probe",
    "regression_probes",
    "resume",
    "run_all",
    "run_changed",
    "sites",
    "study",
    "take",
    "trace",
    "transplant",
]
