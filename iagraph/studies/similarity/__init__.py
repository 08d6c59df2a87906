"""Attention maps, similarity of layers (linear CKA) and beta of any model with attention, as in arXiv 2505.03258."""
