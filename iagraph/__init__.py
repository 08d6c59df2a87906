"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.models.registry import TrainedModel

__all__ = ["__version__", "load"]

__version__ = version("iagraph")


def load(path: str | Path) -> TrainedModel:
    """Load the trained model of a run, see :func:`iagraph.models.registry.load`."""
    from iagraph.models.registry import load  # imports PyTorch, which takes seconds

    return load(path)
