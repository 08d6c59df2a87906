"""Shared utilities for figures: colours, line styles, texts, saving. Pyplot's global state is untouched."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

# Okabe and Ito, Color Universal Design (2008): distinct for all common kinds of colour vision. Yellow is too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (6, 2)), (0, (3, 3)))


def style(index: int) -> dict[str, Any]:
    """Colour and line style of curve number ``index``; colours recur with different line styles."""
    rounds = index // len(COLOURS)
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": LINES[(index + 3 * rounds) % len(LINES)]}


def drawable(text: str) -> str:
    """A user's text, for example a class name, in a form that matplotlib can draw.

    Formulas between dollar signs are typeset if matplotlib knows all their commands, else drawn verbatim.
    """
    shown = _printable(text)
    if _dollars(shown) % 2 or not _known(shown):
        shown = shown.replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{shown}" if shown.startswith("_") else shown  # legends skip labels with "_"


def _printable(text: str) -> str:
    """The text with non-printable characters escaped."""
    return "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in text)


def _dollars(text: str) -> int:
    return text.count("$") - text.count(r"\$")


def _known(text: str) -> bool:
    """Whether matplotlib can parse the formulas."""
    try:
        for line in text.split("\n"):  # as matplotlib does
            MathTextParser("path").parse(line)
    except ValueError:
        return False
    return True


def figure_files(path: str | Path) -> tuple[Path, Path]:
    """Paths of the PNG and PDF files of a figure, given its name or the path of a jet store.

    The suffix ``.png``, ``.pdf`` or ``.h5`` is replaced; other dots belong to the name: ``qg_v1.2`` gives
    ``qg_v1.2.png``.
    """
    name = str(path)
    for suffix in (".png", ".pdf", ".h5"):
        if name.endswith(suffix):
            name = name.removesuffix(suffix)
            break
    return Path(f"{name}.png"), Path(f"{name}.pdf")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure to its ``figure_files``, PNG (150 dpi) and PDF, creating the folder if needed.

    Texts that matplotlib cannot parse are drawn verbatim.
    """
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(shown := _printable(text.get_text()))
        if _dollars(shown) and not _dollars(shown) % 2 and text.get_parse_math():
            text.set_parse_math(_known(shown))
    png, pdf = figure_files(path)
    png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png, dpi=150)
    # Journals accept Type 42 fonts; without a date, equal figures give equal files.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(pdf, metadata={"CreationDate": None})
