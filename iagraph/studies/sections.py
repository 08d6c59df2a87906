"""What a study of runs found, written: tables, figures, numbers, and its section of the report, one HTML file.

The folder of a study holds ``table.md``, a CSV of each table in full precision, each figure as PNG and PDF,
``report.json`` (command, runs, versions, machine, numbers) and ``section.html``. ``report.html`` in the folder above
joins the sections of all studies that are there. It needs no other file and no network.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from iagraph.machine import machine
from iagraph.metrics import Estimate
from iagraph.plotting import save_figure
from iagraph.studies.of_run import OpenRun
from iagraph.studies.side_by_side import labels
from iagraph.studies.tables import csv_text, markdown_table
from iagraph.train.folder import make_folder

Cell = str | int | float | Estimate | None

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222; }
h1, h2, h3 { line-height: 1.2; } section { border-top: 1px solid #ccc; margin-top: 2.5em; }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }
th, td { padding: .25em .7em; border-bottom: 1px solid #ddd; text-align: right; } th:first-child, td:first-child
{ text-align: left; } figure { margin: 1.5em 0; } img { max-width: 100%; } figcaption, li { color: #444; }
code { background: #f3f3f3; padding: .1em .3em; }
"""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows, one sentence.
        rows: each with the same keys, which are the headings; None stands for what there is not.
    """

    caption: str
    rows: Sequence[Mapping[str, Cell]]

    def cells(self) -> list[list[str]]:
        """The table as text, the first line of which are the headings."""
        return [list(self.rows[0]), *([_text(cell) for cell in row.values()] for row in self.rows)]

    def csv(self) -> str:
        """In full precision; a number with an error takes two columns."""
        with_error = {key for row in self.rows for key, cell in row.items() if isinstance(cell, Estimate)}
        lines = []
        for row in self.rows:
            line: dict[str, Any] = {}
            for key, cell in row.items():
                line[key] = cell.value if isinstance(cell, Estimate) else "" if cell is None else cell
                if key in with_error:
                    line[f"{key} error"] = cell.error if isinstance(cell, Estimate) else ""
            lines.append(line)
        return csv_text(lines)


@dataclass(frozen=True)
class Section:
    """What a study found.

    Attributes:
        title: heading of its section.
        tables: by the name of their CSV file.
        figures: by the name of their files, with a caption each.
        notes: what one must know to read them, and what is to be seen.
        numbers: all else that ``report.json`` should hold, of what JSON knows; NaN and infinity become null.
        live: pieces of HTML that react to the reader, with their scripts.
    """

    title: str
    tables: Mapping[str, Table]
    figures: Mapping[str, tuple[Figure, str]]
    notes: Sequence[str]
    numbers: Mapping[str, Any] = field(default_factory=dict)
    live: Sequence[str] = ()


def write_section(folder: Path, section: Section, runs: Sequence[OpenRun], command: str) -> Path:
    """Writes all of it into the folder, in place of what an earlier study left there, and the report above.

    A killed process leaves what was there before.

    Returns:
        The folder.

    Raises:
        RunError: the folder cannot be made.
    """
    make_folder(folder.parent, exist_ok=True)
    notes = [*section.notes, *([f"`{command}`"] if command else [])]
    names = labels([run.path for run in runs])
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        new = Path(place) / folder.name
        new.mkdir()
        for name, (figure, _) in section.figures.items():
            save_figure(figure, new / name)
        for name, table in section.tables.items():
            (new / f"{name}.csv").write_text(table.csv(), encoding="utf-8")
        report = {
            "command": command,
            "runs": {name: {"path": str(run.path), "jets": run.jets} for name, run in zip(names, runs, strict=True)},
            "tables": {name: [dict(row) for row in table.rows] for name, table in section.tables.items()},
            "numbers": section.numbers,
            "notes": notes,
            "machine": machine(),
            "configs": {name: run.run.config.model_dump() for name, run in zip(names, runs, strict=True)},
        }
        text = json.dumps(_json(report), indent=2, allow_nan=False) + "\n"
        (new / "report.json").write_text(text, encoding="utf-8")
        (new / "table.md").write_text(_markdown(section, notes), encoding="utf-8")
        (new / "section.html").write_text(_html(section, notes), encoding="utf-8")
        if folder.exists():
            shutil.move(folder, Path(place) / "old")
        shutil.move(new, folder)
    write_report(folder.parent)
    return folder


def write_report(folder: Path) -> None:
    """Joins the sections of all studies in a folder to ``report.html``."""
    sections = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*/section.html"))]
    title = html.escape(f"Studies of {folder.resolve().name}")
    page = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
    page += f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n" + "\n".join(sections) + "</body></html>\n"
    (folder / "report.html").write_text(page, encoding="utf-8")


def _markdown(section: Section, notes: Sequence[str]) -> str:
    lines = []
    for table in section.tables.values():
        lines += [table.caption, "", *markdown_table(table.cells()), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def _html(section: Section, notes: Sequence[str]) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    for figure, caption in section.figures.values():
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110)
        source = base64.b64encode(image.getvalue()).decode()
        text = html.escape(caption)
        parts.append(f'<figure><img alt="{text}" src="data:image/png;base64,{source}">')
        parts.append(f"<figcaption>{text}</figcaption></figure>")
    parts += section.live
    for table in section.tables.values():
        head, *body = table.cells()
        parts.append(f"<p>{html.escape(table.caption)}</p><table><thead>{_html_row(head, 'th')}</thead><tbody>")
        parts += [_html_row(line, "td") for line in body]
        parts.append("</tbody></table>")
    parts += ["<ul>", *(f"<li>{html.escape(note)}</li>" for note in notes), "</ul></section>"]
    return "\n".join(parts) + "\n"


def _html_row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _text(cell: Cell) -> str:
    number = cell.value if isinstance(cell, Estimate) else cell
    if number is None or (isinstance(number, float) and math.isnan(number)):
        return "-"
    if isinstance(cell, float) and not isinstance(cell, Estimate):
        return f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) and not isinstance(cell, bool) else str(cell)


def _json(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {key: _json(number) for key, number in value._asdict().items()}
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
