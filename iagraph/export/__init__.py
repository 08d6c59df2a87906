"""Trained models for other people's software: in ONNX, and as ``torch.export`` writes them.

An exported model takes four-momenta in a table of slots, whatever its size, and gives the probabilities of the classes;
all that lies between, features and their scaling included, is part of it. Nothing is written that differs from the
model by more than 1e-5.
"""

from iagraph.export.comparison import Comparison, ExportError
from iagraph.export.files import export_onnx, export_program

__all__ = ["Comparison", "ExportError", "export_onnx", "export_program"]
