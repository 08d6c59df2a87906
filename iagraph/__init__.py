"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.predict import RunPredictor

    __version__: str

__all__ = ["__version__", "load"]


def load(path: str | Path) -> RunPredictor:
    """Load the trained model of a run, see :func:`iagraph.predict.load`."""
    from iagraph.predict import load  # imports PyTorch, which takes seconds

    return load(path)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow, too

        return version("iagraph")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
