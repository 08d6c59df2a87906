"""Export of trained models for other software, to ONNX and ``torch.export``.

An exported model maps padded four-momenta of any size to class probabilities and logits; it includes features and
scaling. A file is written only if its results agree with those of the model within 1e-5.
"""

from iagraph.export.comparison import Comparison, ExportError
from iagraph.export.files import export_onnx, export_program

__all__ = ["Comparison", "ExportError", "export_onnx", "export_program"]
