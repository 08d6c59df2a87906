"""Output of studies: tables, figures, numbers, and a section of the HTML report.

The folder of a study holds ``table.md``, each table as CSV in full precision and as LaTeX, each figure as PNG and PDF,
``report.json`` (command, runs, versions, machine, numbers) and ``section.html``. ``report.html`` in the parent folder
joins the sections of all studies of a run; it is self-contained and needs no network.
"""

from __future__ import annotations

import base64
import io
import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from iagraph.data.overview import UNWEIGHTED
from iagraph.machine import machine
from iagraph.metrics import Estimate
from iagraph.plotting import save_figure
from iagraph.studies.output import WRITING, check_output
from iagraph.studies.runs import OpenRun
from iagraph.tables import Table
from iagraph.train.folder import make_folder

Figures: TypeAlias = dict[str, tuple[Figure, str]]
"""Figures with captions, by file name."""

PAGES = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, trim_blocks=True)


@dataclass(frozen=True)
class Section:
    """Results of a study.

    Attributes:
        title: heading of the section.
        tables: tables by file name, without suffix.
        figures: figures with captions, by file name.
        notes: definitions and remarks for readers.
        numbers: further content of ``report.json``: JSON types and estimates; NaN and infinity become null.
        live: interactive HTML with its scripts.
    """

    title: str
    tables: Mapping[str, Table]
    figures: Figures
    notes: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    live: Sequence[str] = ()


def write_study(study: str, folder: Path, section: Section, runs: Sequence[OpenRun], command: str) -> Path:
    """Write a study of runs to its folder, replacing an earlier one, and update the report in the parent folder.

    If this fails, the earlier study remains; if the process is killed, at worst under another name beside its folder.

    Args:
        study: its kind, for the record.
        folder: its folder.
        section: its results.
        runs: the runs.
        command: the command line, for the record.

    Returns:
        The folder.

    Raises:
        RunError: as in :func:`~iagraph.studies.output.check_output`.
    """
    check_output(folder, study, runs[0].path)  # again, as hours may have passed
    make_folder(folder.parent, exist_ok=True)
    if any(run.run.config.data.weights for run in runs):
        section = replace(section, notes=[*section.notes, UNWEIGHTED])
    about = {
        "study": study,
        "runs": {run.name: {"path": str(run.path.resolve()), "jets": run.jets} for run in runs},
        "configs": {run.name: run.run.config.model_dump() for run in runs},
    }
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        new, old = Path(place) / "new", Path(f"{place}-old")
        new.mkdir()
        _write_files(new, section, command, about)
        if folder.exists():
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)
    write_report(folder.parent, [run.path for run in runs])
    return folder


def write_section(folder: Path, section: Section, command: str, about: Mapping[str, Any]) -> None:
    """Write all files of a section to a folder, or none if this fails; the entries of ``about`` are added to
    ``report.json``.
    """
    with tempfile.TemporaryDirectory(prefix=WRITING, dir=folder) as place:
        _write_files(Path(place), section, command, about)
        # The record comes first, as it tells whose the other files are.
        for path in sorted(Path(place).iterdir(), key=lambda path: path.name != "report.json"):
            path.replace(folder / path.name)


def _write_files(folder: Path, section: Section, command: str, about: Mapping[str, Any]) -> None:
    notes = [*section.notes, *([f"`{command}`"] if command else [])]
    for name, (figure, _) in section.figures.items():
        save_figure(figure, folder / name)
    parts: list[str] = []
    for name, table in section.tables.items():
        (folder / f"{name}.csv").write_text(table.csv(), encoding="utf-8")
        (folder / f"{name}.tex").write_text(table.latex(notes), encoding="utf-8")
        parts += [table.caption, table.markdown()]
    parts.append("\n".join(f"- {note}" for note in notes))
    tables = {name: [dict(row) for row in table.exact or table.rows] for name, table in section.tables.items()}
    numbers = {"tables": tables, "numbers": section.numbers, "notes": notes, "machine": machine()}
    report = json.dumps(_json({"command": command, **numbers, **about}), indent=2, allow_nan=False)
    images = [(_image(figure), caption) for figure, caption in section.figures.values()]
    page = PAGES.get_template("section.html").render(section=section, images=images, command=command)
    texts = {"report.json": report, "table.md": "\n\n".join(parts), "section.html": page}
    for name, text in texts.items():
        (folder / name).write_text(text + "\n", encoding="utf-8")


def write_report(folder: Path, runs: Sequence[Path] = ()) -> None:
    """Join the sections of all studies in a folder ``studies/RUN`` into its ``report.html``.

    Includes the sections of ``studies/prune-RUN`` and of the comparisons and learning curves that trained any of
    ``runs``.
    """
    folder = folder.resolve()
    more = [folder.parent / f"prune-{folder.name}", *(place for run in runs for place in run.resolve().parents[1:3])]
    places = [*sorted(folder.glob("*/section.html")), *(each / "section.html" for each in dict.fromkeys(more))]
    sections = [path.read_text(encoding="utf-8") for path in places if path.is_file()]
    title = f"Studies of {folder.name}"
    page = PAGES.get_template("report.html").render(title=title, sections=sections)
    (folder / "report.html").write_text(page + "\n", encoding="utf-8")


def _image(figure: Figure) -> str:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    return base64.b64encode(image.getvalue()).decode()


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
