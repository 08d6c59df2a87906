"""Results of a phase, written row by row, so that a killed phase leaves its results so far."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from benchmark.measure import as_text
from iagraph.files import write_text
from iagraph.tables import markdown


class OutOfTime(Exception):  # noqa: N818, as it is not an error
    """The deadline of the phase has passed."""


@dataclass(frozen=True)
class Plan:
    """Common settings of all phases.

    Attributes:
        device: where to compute.
        batch_sizes: jets per batch; phases that take one size take the first.
        deadline: time on the clock of ``time.monotonic`` after which nothing new is started.
    """

    device: torch.device
    batch_sizes: tuple[int, ...]
    deadline: float

    def check_time(self) -> None:
        """Check the deadline, before anything that takes time.

        Raises:
            OutOfTime: the deadline has passed.
        """
        if self.seconds_left() < 0:
            raise OutOfTime

    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass
class Results:
    """Results of a phase, kept in a JSON file from the first row on.

    Attributes:
        phase: its name.
        path: the file.
        plan: settings, with the deadline.
        rows: one mapping per measurement; keys may differ.
        errors: title and traceback of each exception.
        notes: explanations of the rows.
        started: start of the phase on the clock of ``time.monotonic``.
    """

    phase: str
    path: Path
    plan: Plan
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, **row: Any) -> None:
        """Keep and print a row."""
        self.rows.append(row)
        print("  ", " | ".join(map(as_text, row.values())), flush=True)
        self.write()

    @contextmanager
    def attempt(self, **what: Any) -> Iterator[None]:
        """Run a block; an exception becomes a row and a traceback.

        Args:
            what: the part of the row that describes the attempt.

        Raises:
            OutOfTime: the deadline passed before the block, or within it.
        """
        self.plan.check_time()
        try:
            yield
        except OutOfTime:
            raise
        except Exception as error:  # any failure is a result
            first = str(error).strip().partition("\n")[0][:200]
            self.errors.append({"title": f"{self.phase}: {what}", "traceback": traceback.format_exc()[-6000:]})
            self.add(**what, error=f"{type(error).__name__}: {first}")

    def write(self) -> None:
        """Rewrite the file."""
        content = {
            "phase": self.phase,
            "seconds": round(time.monotonic() - self.started, 1),
            "notes": self.notes,
            "rows": self.rows,
            "errors": self.errors,
        }
        write_text(self.path, json.dumps(content, indent=1) + "\n")


def as_markdown(content: dict[str, Any]) -> str:
    """The section of a phase, from the content of its file: notes, tables of rows with equal keys, tracebacks."""
    lines = [f"## {content['phase']} ({content['seconds']} s)", "", *(f"- {note}" for note in content["notes"])]
    for keys, rows in groupby(content["rows"], key=list):
        lines += ["", markdown([keys, *([as_text(value) for value in row.values()] for row in rows)])]
    for error in content["errors"]:
        lines += ["", f"### {error['title']}", "", "```text", error["traceback"].rstrip(), "```"]
    return "\n".join(lines) + "\n"
