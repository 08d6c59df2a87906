"""Comparison of models trained and evaluated on the same jets with several seeds.

The folder of a comparison holds a run folder per model and seed, ``table.md``, ``table.csv`` and ``table.tex``,
``runs.csv`` (every run), ``figure`` and ``trade_offs`` as PNG and PDF, ``report.json`` (versions, machine, jets,
recipes), and ``section.html`` for the reports of these runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from iagraph.studies.compare.config import Comparison, PlannedRun
from iagraph.studies.compare.figures import cost_and_performance, trade_offs
from iagraph.studies.compare.measure import (
    Result,
    measure_costs,
    models_table,
    over_seeds,
    read_results,
    runs_table,
    with_changes,
)
from iagraph.studies.output import check_results
from iagraph.studies.report import Section, write_section
from iagraph.studies.training import auc_text, is_finished, train_runs
from iagraph.train.config import Config
from iagraph.train.datamodule import ROLES, JetDataModule, fingerprints, open_role
from iagraph.train.distillation import load_teacher
from iagraph.train.folder import alone, make_folder, new_model
from iagraph.train.origin import seen_before
from iagraph.train.trainer import make_trainer, quiet
from iagraph.yaml_config import flat

RESULTS = (
    "report.json",
    "section.html",
    "table.md",
    "table.csv",
    "table.tex",
    "runs.csv",
    "figure.png",
    "figure.pdf",
    "trade_offs.png",
    "trade_offs.pdf",
)
DIFFERENCE = (
    "mean over the seeds of the difference on the same jets; its error combines that of this mean with that of the "
    "finite test set"
)
SHOWN = ("data.node_features", "data.batch_size", "data.max_pairs", "fine_tune", "distill")
"""Keys that notes report if recipes differ in them, besides all of ``train``; models differ on purpose."""


def compare(comparison: Comparison, jobs: int = 1, command: str = "") -> Path:
    """Train missing runs, and write tables and the figure of all runs.

    Args:
        comparison: the models.
        jobs: number of runs to train concurrently, each in its own process.
        command: the command line, for the record.

    Returns:
        The folder of the comparison.

    Raises:
        ConfigError, StoreError: a recipe or the jets are wrong.
        RunError, CheckpointError: finished runs do not fit the recipes, a device is unavailable, or initial weights do
            not fit, all found before anything is written; or, later, runs failed or another process uses the folder.
    """
    jets = jets_of(comparison)
    with trained("compare", comparison.folder, comparison.runs, jets.fingerprints, jobs):
        results = with_changes(read_results(comparison.runs), comparison)
        costs, how = measure_costs(comparison)
        rows = over_seeds(results, costs)
        about = [*notes(comparison.recipes, comparison.seeds, jets.train, jets.test, results), how]
        if comparison.reference is not None:
            about.append(f"AUC - {comparison.reference}: {DIFFERENCE}")
        title = f"Comparison of models ({comparison.folder.name})"
        figures = {
            "figure": (cost_and_performance(rows), "Performance and cost of each model."),
            "trade_offs": (trade_offs(rows), "Performance against each cost."),
        }
        section = Section(title, {"table": models_table(rows, comparison.reference)}, figures, about)
        recipes = {name: config.model_dump() for name, config in comparison.recipes.items()}
        more = {
            "study": "compare",
            "jets": jets._asdict(),
            "seeds": comparison.seeds,
            "recipes": recipes,
            "reference": comparison.reference,
        }
        write_section(comparison.folder, section, command, more)
        (comparison.folder / "runs.csv").write_text(runs_table(results).csv(), encoding="utf-8")
    return comparison.folder


@contextmanager
def trained(
    study: str,
    folder: Path,
    runs: Sequence[PlannedRun],
    fingerprints: dict[str, dict[str, str]],
    jobs: int,
    results: Sequence[str] = RESULTS,
) -> Iterator[None]:
    """Train the missing ones of these runs; within the context, all are finished and no other process uses the folder.

    If any are missing, the files ``results`` in the folder are removed first, if they are of a study of this kind.
    Raises the errors of :func:`compare`.
    """
    check_results(folder, study, results)
    _check([run for run in runs if not is_finished(run, fingerprints)])
    make_folder(folder, exist_ok=True)
    with alone(folder):
        # Checked again, as another process may have trained some of them in the meantime.
        missing = [run for run in runs if not is_finished(run, fingerprints)]
        for run in runs:
            if run not in missing:
                print(f"{run}: {auc_text(run.folder)} (finished before)", flush=True)
        if missing:
            for name in reversed(results):  # they describe fewer or other runs; the record, which names them, is last
                (folder / name).unlink(missing_ok=True)
            train_runs(missing, jobs)
        yield


class JetsInfo(NamedTuple):
    """Fingerprint of each file of each role, and numbers of jets."""

    fingerprints: dict[str, dict[str, str]]
    train: int
    test: int


def jets_of(comparison: Comparison) -> JetsInfo:
    """Check that the jet files exist and have the columns that each recipe needs, and describe them."""
    for config in comparison.recipes.values():
        stores = {role: open_role(getattr(config.data, role), role, config.data) for role in ROLES}
    found = {role: fingerprints(getattr(config.data, role), stores[role]) for role in ROLES}
    numbers = {role: sum(map(len, stores[role])) for role in ROLES}
    return JetsInfo(found, min(numbers["train"], config.data.max_jets or numbers["train"]), numbers["test"])


@quiet()
def _check(missing: Sequence[PlannedRun]) -> None:
    """Check jets, devices, models and weights before hours of training."""
    if not missing:
        return
    for config in {(run.config.train.device, run.config.train.precision): run.config for run in missing}.values():
        make_trainer(config)
    first = missing[0].config
    jets = JetDataModule(first.data, first.seed)  # the same jets for all recipes, except for columns
    for config in {run.model: run.config for run in missing}.values():
        new_model(config, jets.classes)
        if config.distill is not None:
            load_teacher(config.distill.teacher, jets.datasets["train"])
        jets.add_seen(*seen_before(config))


def different_recipes(recipes: Mapping[str, Config]) -> list[str]:
    """Keys whose values differ between models, as in ``train.epochs: 4, but ParticleNet 2``.

    The most common value comes first; ties follow the order of models.
    """
    settings = {name: _training(config) for name, config in recipes.items()}
    notes = []
    for key in next(iter(settings.values())):
        models: dict[str, list[str]] = {}
        for name, values in settings.items():
            models.setdefault(json.dumps(values[key]), []).append(name)
        common, *others = sorted(models, key=lambda value: -len(models[value]))
        if others:
            but = "; ".join(f"{', '.join(models[value])} {value}" for value in others)
            notes.append(f"{key}: {common}, but {but}".replace('"', ""))
    return notes


def _training(config: Config) -> dict[str, Any]:
    values = config.model_dump()
    whole = {key: values.pop(key) for key in ("fine_tune", "distill")}  # sections for some, None for others
    return {key: value for key, value in (*flat(values), *whole.items()) if key in SHOWN or key.startswith("train.")}


def notes(
    recipes: Mapping[str, Config], seeds: Sequence[int], train: int, test: int, results: Sequence[Result]
) -> list[str]:
    """Notes on the table, except the one about timing; ``train`` and ``test`` are numbers of jets."""
    data = next(iter(recipes.values())).data
    role = f"signal: {data.signal}" if data.signal else "AUC: mean over the classes, each against all others"
    if len(seeds) > 1:
        spread = f"the seeds {', '.join(map(str, seeds))}; +- is the sample standard deviation over these runs"
    else:
        spread = f"the seed {seeds[0]} only: there is no spread, so differences may be random"
    errors = [result.report["auc"].error for result in results]
    low, high = (f"{error:.2g}" for error in (min(errors), max(errors)))
    error = low if low == high else f"{low} to {high}"
    rejection = (
        "1/eB: background rejection, one over the fraction of background jets that pass at this signal efficiency"
    )
    return [
        f"each model trained with {spread}",
        *different_recipes(recipes),
        f"{train:,} training jets, {test:,} test jets, {role}" + (", jets are weighted" if data.weights else ""),
        f"the finite test set alone causes an error of {error} in the AUC, largely common to all models, as they are "
        "tested on the same jets",
        f"multiplicity alone reaches an AUC of {results[0].multiplicity} on these jets",
        *([rejection] if any(key.startswith("rejection_at_") for key in results[0].report) else []),
        "FLOP: matrix products of one forward pass, two per multiply-add",
        "edges kept: self-edges included, mean over the layers",
        "training: the whole time, with validation, mean over the seeds",
    ]
