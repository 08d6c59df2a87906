"""Jet taggers, each readable beside its paper."""

from iagraph.models.iaformer import IAFormer

__all__ = ["IAFormer"]
