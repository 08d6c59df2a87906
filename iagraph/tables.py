"""Tables of numbers, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from iagraph.metrics import Estimate  # iagraph.metrics needs scikit-learn, tables do not

Cell: TypeAlias = "str | int | float | Estimate | None"

ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows, in one sentence.
        rows: each with the same keys, which are the headings; None is an empty cell.
        exact: rows for CSV if they need other keys or more digits than the rows shown.
    """

    caption: str
    rows: Sequence[Mapping[str, Cell]]
    exact: Sequence[Mapping[str, Cell]] | None = None

    def cells(self) -> list[list[str]]:
        """Cells as text, line by line; the first line has the headings."""
        return [list(self.rows[0]), *([_text(cell) for cell in row.values()] for row in self.rows)]

    def markdown(self) -> str:
        """The table in Markdown, without the caption."""
        return markdown(self.cells())

    def csv(self) -> str:
        """The table as CSV, in full precision; a number with an error takes two columns."""
        rows, ending = (self.rows, " error") if self.exact is None else (self.exact, "_error")
        with_error = {key for row in rows for key, cell in row.items() if isinstance(cell, tuple)}
        lines = []
        for row in rows:
            line: dict[str, Any] = {}
            for key, cell in row.items():
                line[key], error = cell if isinstance(cell, tuple) else (cell, None)
                line |= {key + ending: error} if key in with_error else {}
            lines.append(line)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()

    def latex(self, notes: Sequence[str] = ()) -> str:
        """A LaTeX tabular that uses the package booktabs; notes become comments."""
        head, *body = [[_latex(cell) for cell in line] for line in self.cells()]
        lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", rf"{' & '.join(head)} \\", r"\midrule"]
        lines += [*(rf"{' & '.join(line)} \\" for line in body), r"\bottomrule", r"\end{tabular}"]
        return "\n".join([*(f"% {note}" for note in notes), *lines, ""])


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown from lines of cells; the first line has the headings."""
    head, *body = [[cell.replace("|", r"\|") for cell in line] for line in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def _text(cell: Cell) -> str:
    number = cell[0] if isinstance(cell, tuple) else cell
    if number is None or (isinstance(number, float) and math.isnan(number)):
        return "-"
    if isinstance(cell, float):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def _latex(text: str) -> str:
    text = "".join(ESCAPES.get(sign, sign) for sign in text)
    return text.replace("+-", r"$\pm$").replace("1/eB", r"$1/\varepsilon_B$")
