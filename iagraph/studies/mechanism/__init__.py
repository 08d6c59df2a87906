"""Mechanisms: effects of single heads and pair features, and contents of layers, following arXiv 2605.09881."""
