"""Jet tagging as a graph problem, with attention that prunes edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from iagraph.predict import RunPredictor

    __version__: str


def load(path: str | Path) -> RunPredictor:
    """The trained model of a run, ready to use; see :func:`iagraph.predict.load`."""
    from iagraph.predict import load  # PyTorch takes seconds to import, which the version alone does not need

    return load(path)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # slow, too

        return version("iagraph")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
