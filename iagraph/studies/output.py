"""Output folders of studies: what is there already, and whether a study may replace it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from iagraph.train.folder import RunError

SUFFIXES = {".csv", ".html", ".json", ".md", ".pdf", ".png", ".tex"}
OF_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini"}
WRITING = ".writing-"
"""Beginning of the names of folders for results that are being written."""
MARKS = {"report.json", "section.html"}


def check_earlier(folder: Path, study: str, run: Path, more: Collection[str] = ()) -> None:
    """Check that there is nothing at this path except an earlier study of this kind and run, or an empty folder.

    Args:
        folder: output folder of a study, which need not exist.
        study: kind of the study.
        run: folder of its first run.
        more: names of what studies of this kind leave there besides their results, even if unfinished.

    Raises:
        RunError: there is something else.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    found = [path for path in found if path.name not in OF_DESKTOPS and not path.name.startswith(WRITING)]
    names = {path.name for path in found}
    begun = names >= MARKS or not names.isdisjoint(more)
    for path in found:
        if not begun or not (path.name in more or (path.suffix in SUFFIXES and path.is_file())):
            raise RunError(f"{path}: not of an earlier study, and nothing else is overwritten; give another --out")
    held = _record(folder)
    if held.get("study", study) != study:  # earlier versions did not say
        raise RunError(f"{folder}: holds the study '{held['study']}', not '{study}'; give another --out")
    earlier = _first_run(held)
    if earlier is not None and Path(earlier).exists() and Path(earlier).resolve() != run.resolve():
        raise RunError(f"{folder}: holds this study of {earlier}, not of {run}; give another --out, or delete it")


def check_results(folder: Path, study: str, names: Collection[str]) -> None:
    """Check that results of a comparison or a learning curve would replace only those of an earlier one.

    Args:
        folder: its folder.
        study: "compare" or "curve".
        names: names of its results.

    Raises:
        RunError: files with such names are of something else.
    """
    held, there = _record(folder), [folder / name for name in names if (folder / name).exists()]
    if there and (held.get("study", study) != study or "recipes" not in held):
        raise RunError(
            f"{there[0]}: not of an earlier study of this kind, and nothing else is overwritten; change name"
        )


def _record(folder: Path) -> dict[str, Any]:
    """The record of the study that a folder holds; empty if there is none or it is damaged."""
    try:
        held = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _first_run(held: dict[str, Any]) -> str | None:
    """The folder of the first run of a recorded study, if recorded."""
    try:
        return str(held["run"] if "run" in held else next(iter(held["runs"].values()))["path"])
    except (LookupError, TypeError, AttributeError, StopIteration):
        return None


def check_output(folder: Path, study: str, run: Path) -> None:
    """Check that a study of runs can write its folder, and the report beside it, without harm to other files; arguments
    as in :func:`check_earlier`.

    Raises:
        RunError: it cannot.
    """
    check_earlier(folder, study, run)
    report = folder.parent / "report.html"
    if report.exists() and not is_report(report):
        raise RunError(f"{report}: not a report of studies, but one is written here; move it, or give another --out")
    place = next(each for each in folder.parents if each.exists())
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise RunError(f"{folder}: cannot make this folder; check the permissions of {place}, or give another --out")


def is_report(path: Path) -> bool:
    """Whether a file is the report of the studies of some run."""
    start = r'<!doctype html>\s<html lang="en"><head>.*<title>Studies of '
    return path.is_file() and re.match(start, path.read_text(encoding="utf-8", errors="replace")) is not None
