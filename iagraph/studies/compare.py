"""Models over several seeds on the same jets: trained, judged, and put side by side.

The folder of a comparison holds a run folder per model and seed, ``table.md``, ``table.csv`` and ``table.tex``,
``runs.csv`` (every run), ``figure.png`` and ``figure.pdf``, and ``report.json`` (versions, machine, jets, recipes).
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import nn

from iagraph.benchmarks.measure import machine
from iagraph.data import JetDataset, JetSource, StoredJets
from iagraph.graphs import JetBatch
from iagraph.plotting import save_figure
from iagraph.studies.config import Comparison, PlannedRun
from iagraph.studies.figures import cost_and_performance
from iagraph.studies.notes import notes
from iagraph.studies.runs import auc_text, is_finished, read_json, train_runs
from iagraph.studies.tables import Result, Row, latex, markdown, runs_csv, table, table_csv
from iagraph.train.config import Config
from iagraph.train.datamodule import ROLES, JetDataModule, fingerprints, open_role, read_all
from iagraph.train.evaluation import evenly_spaced
from iagraph.train.fine_tuning import seen_before
from iagraph.train.folder import RunError, load_run, make_folder, new_model
from iagraph.train.run import make_trainer, quiet

RESULTS = ("report.json", "table.md", "table.csv", "table.tex", "runs.csv", "figure.png", "figure.pdf")
TIMED_JETS = 512
TIMED_BATCH = 64
ROUNDS = 5


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
    with _alone(comparison.folder):
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


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps a second command from training, and replacing, the same runs; the system ends the lock of a killed one."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{folder}: another process works on this comparison; wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()


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
    models, batches, used = {}, {}, set()
    for run in comparison.runs[: len(comparison.recipes)]:
        models[run.model] = load_run(run.folder).model
        batches[run.model] = _some_batches(run.config)
        used.add(read_json(run.folder / "metrics.json", lambda found: str(found["cost"]["measured_on"]["device"])))
    # Where all of them predicted; but runs may have been brought here from a machine that has more devices.
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = used.pop() if len(used) == 1 else "cpu"
    device = device if here.get(device) else "cpu"
    jets = sum(map(len, batches[run.model]))
    how = (
        f"time: side by side, median of {ROUNDS} rounds over {jets} test jets in batches of {TIMED_BATCH}, float32, "
        f"{device}, threads: {torch.get_num_threads()}"
    )
    return seconds_per_jet(models, batches, torch.device(device)), how


def _some_batches(config: Config) -> list[JetBatch]:
    """Test jets of a model."""
    stores = open_role(config.data.test, "test", config.data)
    jets: JetSource
    if config.data.in_memory:
        jets = JetDataset(read_all(stores), config.data.max_particles)
    else:
        jets = StoredJets(stores, config.data.max_particles)
    places = evenly_spaced(len(jets), TIMED_JETS)
    return [jets[places[begin : begin + TIMED_BATCH]] for begin in range(0, len(places), TIMED_BATCH)]


def seconds_per_jet(
    models: Mapping[str, nn.Module], batches: Mapping[str, Sequence[JetBatch]], device: torch.device
) -> dict[str, float]:
    """Time of inference per jet, of models that take turns, so that none has the quiet hours of a machine for itself.

    Args:
        models: the models by name; they are set to evaluation.
        batches: the jets of each model, the same for all but for the columns.
        device: where to measure.
    """
    where = {name: [batch.to(device) for batch in mine] for name, mine in batches.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        for _ in range(ROUNDS + 1):  # the first one warms up
            for name, model in models.items():
                model.to(device).eval()
                start = time.perf_counter()
                for batch in where[name]:
                    model(batch).cpu()  # a GPU has finished when its results are here
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) / sum(map(len, where[name])) for name, times in seconds.items()}


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
