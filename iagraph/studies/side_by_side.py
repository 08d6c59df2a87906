"""Runs that are looked at together: what to call them, and whether they have the same jets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iagraph.jets import JetBatch
from iagraph.studies.of_run import OpenRun
from iagraph.train.folder import RunError


def labels(paths: Sequence[Path]) -> list[str]:
    """A name for each run: that of its folder, with as many of the folders above as tell it from the others.

    Raises:
        RunError: a folder is given twice.
    """
    parts = [path.resolve().parts for path in paths]
    for number, folder in enumerate(parts):
        if folder in parts[:number]:
            raise RunError(f"{paths[number]}: this run is given twice; give each run once")
    return ["/".join(_shortest_end(folder, parts)) for folder in parts]


def _shortest_end(folder: tuple[str, ...], folders: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    length = 1
    while sum(other[-length:] == folder[-length:] for other in folders) > 1:
        length += 1
    return folder[-length:]


def check_same_jets(runs: Sequence[OpenRun]) -> None:
    """Makes sure that all runs have the same jets in the same order.

    Raises:
        RunError: one has others than the first.
    """
    for run in runs[1:]:
        same = run.run.classes == runs[0].run.classes and len(run.batches) == len(runs[0].batches)
        if not same or not all(map(_equal, run.batches, runs[0].batches)):
            raise RunError(
                f"{run.path}: its test jets ('data.test', 'data.max_particles', 'data.masses', classes) are not those "
                f"of {runs[0].path}, and only what models make of the same jets can be compared; give runs of the same "
                "test jets, or study these one by one"
            )


def _equal(one: JetBatch, other: JetBatch) -> bool:
    assert one.y is not None
    assert other.y is not None
    if not (one.ptr.equal(other.ptr) and one.y.equal(other.y)):
        return False
    return all(a.equal(b) for a, b in zip(one.momenta, other.momenta, strict=True))
