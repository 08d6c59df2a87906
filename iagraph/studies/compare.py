"""Models over several seeds on the same jets: trained, judged, and put side by side.

The folder of a comparison holds a run folder per model and seed, ``table.md``, ``table.csv`` and ``table.tex``,
``runs.csv`` (every run), ``figure.png`` and ``figure.pdf``, and ``report.json`` (versions, machine, jets, recipes).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from iagraph.machine import machine
from iagraph.plotting import save_figure
from iagraph.studies.config import Comparison, PlannedRun
from iagraph.studies.figures import cost_and_performance
from iagraph.studies.measuring import (
    TIMED_JETS,
    how_measured,
    open_test_jets,
    seconds_per_jet,
    some_batches,
    where_measured,
)
from iagraph.studies.notes import notes
from iagraph.studies.runs import auc_text, is_finished, read_json, train_runs
from iagraph.studies.tables import Result, Row, latex, markdown, runs_csv, table, table_csv
from iagraph.train.datamodule import ROLES, JetDataModule, fingerprints, open_role
from iagraph.train.fine_tuning import seen_before
from iagraph.train.folder import RunError, alone, load_run, make_folder, new_model
from iagraph.train.run import make_trainer, quiet

RESULTS = ("report.json", "table.md", "table.csv", "table.tex", "runs.csv", "figure.png", "figure.pdf")


def compare(comparison: Comparison, jobs: int = 1, command: str = "") -> Path:
    """Trains what is not trained yet, and writes tables and figure of all runs.

    Args:
        comparison: the models.
        jobs: runs to train at the same time, each in a process of its own.
        command: what was typed, for the record.

    Returns:
        The folder of the comparison.

    Raises:
        ConfigError, StoreError: a recipe or the jets are wrong.
        RunError, CheckpointError: finished runs do not fit the recipes, a device is not there, weights to start from
            do not fit. All of these are found before anything is written. Also, later: runs failed; or another process
            works in the folder.
    """
    jets = _open(comparison)
    _check([run for run in comparison.runs if not is_finished(run, jets.fingerprints)])
    make_folder(comparison.folder, exist_ok=True)
    with alone(comparison.folder):
        # Once more: until here another process may have trained some.
        missing = [run for run in comparison.runs if not is_finished(run, jets.fingerprints)]
        for run in comparison.runs:
            if run not in missing:
                print(f"{run}: {auc_text(run.folder)} (finished before)", flush=True)
        if missing:
            for name in RESULTS:  # those of fewer runs, or of others
                (comparison.folder / name).unlink(missing_ok=True)
            train_runs(missing, jobs)
        results = read_results(comparison.runs)
        seconds, how = _measure(comparison)
        rows = table(results, seconds)
        about = notes(comparison.recipes, comparison.seeds, jets.train, jets.test, results)
        about += [how, *([f"`{command}`"] if command else [])]
        _write(comparison, rows, results, about, {"command": command, "jets": jets._asdict()})
    return comparison.folder


class _JetsInfo(NamedTuple):
    """Fingerprint of each file of each role, and numbers of jets."""

    fingerprints: dict[str, dict[str, str]]
    train: int
    test: int


def _open(comparison: Comparison) -> _JetsInfo:
    """Whether the files of jets are there, with the columns that each recipe needs."""
    for config in comparison.recipes.values():
        stores = {role: open_role(getattr(config.data, role), role, config.data) for role in ROLES}
    found = {role: fingerprints(getattr(config.data, role), stores[role]) for role in ROLES}
    numbers = {role: sum(map(len, stores[role])) for role in ROLES}
    return _JetsInfo(found, min(numbers["train"], config.data.max_jets or numbers["train"]), numbers["test"])


@quiet()
def _check(missing: Sequence[PlannedRun]) -> None:
    """Whether runs can be trained: jets that fit, devices, models and weights, before hours of it."""
    if not missing:
        return
    for config in {(run.config.train.device, run.config.train.precision): run.config for run in missing}.values():
        make_trainer(config)
    first = missing[0].config
    jets = JetDataModule(first.data, first.seed)  # those of all recipes, but for columns
    for config in {run.model: run.config for run in missing}.values():
        new_model(config, jets.classes)
        jets.add_seen(*seen_before(config))


def read_results(runs: Sequence[PlannedRun]) -> list[Result]:
    """What finished runs recorded.

    Raises:
        RunError: a record is missing or damaged, or lacks a number that another one has.
    """
    results: list[Result] = []
    for run in runs:
        take = partial(Result.from_metrics, run.model, run.config.seed)
        results.append(read_json(run.folder / "metrics.json", take))
    numbers = {key for result in results for key in result.report}
    for run, result in zip(runs, results, strict=True):
        if lacking := sorted(numbers - result.report.keys()):
            raise RunError(
                f"{run.folder / 'metrics.json'}: damaged (no {', '.join(lacking)}, which other runs have); delete the "
                "folder of this run, to train it anew"
            )
    return results


def _measure(comparison: Comparison) -> tuple[dict[str, float], str]:
    """Time per jet of each model of the first seed, and how it was measured."""
    runs = comparison.runs[: len(comparison.recipes)]
    models = {run.model: load_run(run.folder).model for run in runs}
    batches = {run.model: some_batches(open_test_jets(run.config), TIMED_JETS) for run in runs}
    device = where_measured([run.folder for run in runs])
    how = how_measured(sum(map(len, batches[runs[0].model])), device)
    return seconds_per_jet(models, batches, device), how


def _write(
    comparison: Comparison, rows: Sequence[Row], results: Sequence[Result], about: Sequence[str], more: dict[str, Any]
) -> None:
    folder = comparison.folder
    report = {
        **more,
        "notes": about,
        "machine": machine(),
        "seeds": comparison.seeds,
        "recipes": {name: config.model_dump() for name, config in comparison.recipes.items()},
    }
    texts = {
        "table.md": markdown(rows, about),
        "table.csv": table_csv(rows),
        "table.tex": latex(rows, about),
        "runs.csv": runs_csv(results),
        "report.json": json.dumps(report, indent=2) + "\n",
    }
    save_figure(cost_and_performance(rows), folder / "figure")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
