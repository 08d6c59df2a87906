"""Output folders of studies: what is there already, and whether a study may replace it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from iagraph.train.folder import RunError

SUFFIXES = {".csv", ".html", ".json", ".md", ".pdf", ".png", ".tex"}
OF_DESKTOPS = {".DS_Store", "Thumbs.db", "desktop.ini"}
MARKS = {"report.json", "section.html"}


def check_earlier(folder: Path, more: Collection[str] = ()) -> None:
    """Check that there is nothing at this path except an earlier study or an empty folder.

    Args:
        folder: output folder of a study, which need not exist.
        more: names of what studies of this kind leave there besides their results, even if unfinished.

    Raises:
        RunError: there is something else.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    found = [path for path in found if path.name not in OF_DESKTOPS]
    names = {path.name for path in found}
    begun = names >= MARKS or not names.isdisjoint(more)
    for path in found:
        if not begun or not (path.name in more or (path.suffix in SUFFIXES and path.is_file())):
            raise RunError(f"{path}: not of an earlier study, and nothing else is overwritten; give another --out")


def check_output(folder: Path) -> None:
    """Check that a study of runs can write its folder, and the report beside it, without harm to other files.

    Raises:
        RunError: it cannot.
    """
    check_earlier(folder)
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
