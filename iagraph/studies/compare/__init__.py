"""Comparison of models trained with several seeds on the same jets."""
