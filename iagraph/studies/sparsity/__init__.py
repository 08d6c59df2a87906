"""How binary the attention of trained models is, what makes it so, and whom it links.

After `"Why Is Attention Sparse in Particle Transformer?" <https://arxiv.org/abs/2512.00210>`_ and `"Interpreting
Transformers for Jet Tagging" <https://arxiv.org/abs/2412.03673>`_.
"""

from iagraph.studies.sparsity.between import (
    between_subjets,
    distance_sums,
    geometry,
    jet_shares,
    lepton_attention,
    number_of_subjets,
    shuffled,
)
from iagraph.studies.sparsity.binary import binarity, correlation, row_flags, row_numbers, score_ratios
from iagraph.studies.sparsity.measured import Measured, added, histogram, stacked
from iagraph.studies.sparsity.rows import Rows, entropy, is_non_binary, largest_source, per_jet, shares, spread
from iagraph.studies.sparsity.study import study
from iagraph.studies.sparsity.zeroing import zero_beta, zero_both, zero_content, zero_pairs, zeroings

__all__ = [
    "Measured",
    "Rows",
    "added",
    "between_subjets",
    "binarity",
    "correlation",
    "distance_sums",
    "entropy",
    "geometry",
    "histogram",
    "is_non_binary",
    "jet_shares",
    "largest_source",
    "lepton_attention",
    "number_of_subjets",
    "per_jet",
    "row_flags",
    "row_numbers",
    "score_ratios",
    "shares",
    "shuffled",
    "spread",
    "stacked",
    "study",
    "zero_beta",
    "zero_both",
    "zero_content",
    "zero_pairs",
    "zeroings",
]
