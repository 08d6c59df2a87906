"""Timing, peak memory, and reports with machine and versions."""

from __future__ import annotations

import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from iagraph.machine import machine
from iagraph.memory import memory_in_use
from iagraph.tables import markdown


@dataclass
class Report:
    """A table of measurements with the machine and versions.

    Attributes:
        title: what was measured.
        rows: one mapping per measurement, all with the same keys.
        notes: what one must know to read them.
    """

    title: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """The table, the notes and the machine."""
        names = list(self.rows[0])
        cells = [names, *([as_text(row[name]) for name in names] for row in self.rows)]
        lines = [f"## {self.title}", "", markdown(cells)]
        about = ", ".join(f"{name} {value}" for name, value in machine().items())
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), f"- {about}"])

    def write(self, path: Path) -> None:
        """The same as JSON."""
        content = asdict(self) | {"machine": machine()}
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of runs, after one warm-up run."""
    return statistics.median(seconds_of(run, repeats))


def seconds_of(run: Callable[[], object], repeats: int) -> list[float]:
    """Time of each run, after one warm-up run."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def in_new_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Result of a function in a new process, and the peak memory of the process in MB.

    Memory includes Python and its packages, but not worker processes.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_with_memory, function, arguments).result()


def _with_memory(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    return function(*arguments), (memory_in_use(peak=True) or 0.0)


class PeakMemory:
    """Peak memory of this process during calls, above that at construction.

    Best made in a new process, once packages are loaded: memory that was freed before may be used again, unseen. Linux
    resets the peak for each call; elsewhere it is the highest so far, and calls should come in the order of their need.
    """

    def __init__(self) -> None:
        gc.collect()
        self._before = memory_in_use() or 0.0

    def of(self, run: Callable[[], object]) -> float:
        """Peak memory during a call, in MB above the start."""
        with suppress(OSError):  # resets the peak memory of the process (VmHWM)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        run()
        return max((memory_in_use(peak=True) or 0.0) - self._before, 0.0)


def as_text(value: Any) -> str:
    """A number with three significant digits, or with all digits before the decimal point."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
