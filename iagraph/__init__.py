"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.predict import RunPredictor

__all__ = ["__version__", "load"]

__version__ = "0.2.0"


def load(path: str | Path) -> RunPredictor:
    """The trained model of a run, on the CPU and in evaluation mode.

    ``iagraph.load("runs/qg-001").predict("jets.root")`` gives the class probabilities of all jets in a file, shape
    [jets, classes]; called with a :class:`~iagraph.jets.JetBatch` or a ``Batch`` of PyTorch Geometric, the model gives
    the logits of its jets.

    Args:
        path: the folder of a finished run, or ``pretrained:NAME`` for a model that comes with the package.

    Raises:
        FileNotFoundError: the package has no model of this name.
        CheckpointError: the folder holds no finished run, or a file in it is damaged.
    """
    from iagraph.predict import load  # imports PyTorch, which takes seconds

    return load(path)
