"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.predict import RunPredictor

__all__ = ["__version__", "load"]

__version__ = "0.2.0"


def load(path: str | Path) -> RunPredictor:
    """Load the trained model of a run, or one of the package (``pretrained:qg``), see :func:`iagraph.predict.load`."""
    from iagraph.predict import load  # imports PyTorch, which takes seconds

    return load(path)
