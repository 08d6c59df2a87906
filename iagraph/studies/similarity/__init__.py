"""What the authors of IAFormer (arXiv 2505.03258) show of it, of any model with attention: attention maps, how alike
the layers are (linear CKA), and beta.
"""

from iagraph.studies.similarity.attention_maps import MeanMaps, jet_maps, pt_ranks
from iagraph.studies.similarity.beta import BetaHistory, beta_history, kept_epoch
from iagraph.studies.similarity.layer_similarity import LayerSimilarity, linear_cka, unbiased_hsic
from iagraph.studies.similarity.measure import jet_vectors, layer_similarity, mean_maps
from iagraph.studies.similarity.report import study

__all__ = [
    "BetaHistory",
    "LayerSimilarity",
    "MeanMaps",
    "beta_history",
    "jet_maps",
    "jet_vectors",
    "kept_epoch",
    "layer_similarity",
    "linear_cka",
    "mean_maps",
    "pt_ranks",
    "study",
    "unbiased_hsic",
]
