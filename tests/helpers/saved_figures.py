"""How figures are saved in tests. Drawing takes two thirds of the time of a small training."""

from contextlib import contextmanager
from pathlib import Path

import pytest
from matplotlib.figure import Figure

SAVEFIG = Figure.savefig


def _touch(figure, file, **_):
    if isinstance(file, str | Path):
        Path(file).touch()


def _lay_out(figure, file, **_):
    figure.draw_without_rendering()
    _touch(figure, file)


HOW = {"drawn": SAVEFIG, "laid out": _lay_out, "empty": _touch}


@contextmanager
def figures(how):
    """Within it, files of figures are drawn, or empty, with all texts laid out or not even these."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", HOW[how])
        yield
