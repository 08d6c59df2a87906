"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.models.registry import TrainedModel

__version__ = version("iagraph")


def load(path: str | Path) -> TrainedModel:
    """The trained model of a run, ready to use; see :func:`iagraph.models.registry.load`."""
    from iagraph.models.registry import load  # PyTorch takes seconds to import, which the version alone does not need

    return load(path)
