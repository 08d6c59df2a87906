"""Results of the finished runs of a comparison, and inference times of their models."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from torch import nn

from iagraph.estimates import OverSeeds, mean_over_runs
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, auc_difference, macro_auc_difference
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.costs import cost
from iagraph.studies.compare.config import Comparison, PlannedRun
from iagraph.studies.runs import open_test_jets, read_json, some_batches, where_measured
from iagraph.studies.timing import TIMED_JETS, how_measured, seconds_per_jet
from iagraph.tables import Cell, Table
from iagraph.train.evaluation import heading
from iagraph.train.folder import RunError, load_run


@dataclass(frozen=True)
class Result:
    """Results of a finished run.

    Attributes:
        model: name of the model in the table.
        seed: seed of the run.
        report: accuracy, AUC and rejections, each with the error of the finite test set.
        multiplicity: AUC of the number of particles alone.
        gain: AUC of the model minus that of multiplicity alone.
        parameters: number of parameters of the model.
        flops: its floating-point operations per jet.
        jets: number of test jets.
        training: seconds that its training took, validation included; NaN if not recorded.
        change: AUC minus that of the reference model of the same seed, if there is one.
    """

    model: str
    seed: int
    report: dict[str, Estimate]
    multiplicity: Estimate
    gain: Estimate
    parameters: int
    flops: float
    jets: int
    training: float = math.nan
    change: Estimate | None = None

    @classmethod
    def from_metrics(cls, model: str, seed: int, metrics: Mapping[str, Any]) -> Result:
        """Result from the content of ``metrics.json``, in which null stands for an infinite or undefined number."""
        report = {key: _estimate(key, value) for key, value in metrics["tagger"].items()}
        multiplicity = _estimate("auc", metrics["multiplicity"]["auc"])
        gain = _estimate("gain", metrics["auc_gain_over_multiplicity"])
        cost = metrics["cost"]
        counts = cost["parameters"], cost["flops_per_jet"], metrics["jets"]
        training = metrics.get("training", {}).get("seconds", math.nan)
        return cls(model, seed, report, multiplicity, gain, *counts, float(training))


class Costs(NamedTuple):
    """What inference with a model costs.

    Attributes:
        seconds: inference time per jet.
        kept: fraction of edges kept, self-edges included, mean over the layers; NaN for models without attention.
    """

    seconds: float
    kept: float


@dataclass(frozen=True)
class Row:
    """Results of a model over its seeds, and its cost.

    Attributes:
        model: name of the model in the table.
        numbers: accuracy, AUC and rejections by their keys in reports.
        parameters: number of parameters of the model.
        flops: its floating-point operations per jet.
        training: seconds of its trainings.
        costs: those of inference.
        change: mean AUC minus that of the reference model, if there is one. Its error combines those of the seeds and
            of the finite test set.
    """

    model: str
    numbers: dict[str, OverSeeds]
    parameters: int
    flops: float
    training: OverSeeds
    costs: Costs
    change: Estimate | None


def over_seeds(results: Sequence[Result], costs: Mapping[str, Costs]) -> list[Row]:
    """A row per model, in order of appearance."""
    rows = []
    for model in dict.fromkeys(result.model for result in results):
        mine = [result for result in results if result.model == model]
        numbers = {key: OverSeeds(tuple(result.report[key].value for result in mine)) for key in mine[0].report}
        training = OverSeeds(tuple(result.training for result in mine))
        changes = [result.change for result in mine if result.change is not None]
        change = mean_over_runs(changes) if changes else None
        rows.append(Row(model, numbers, mine[0].parameters, mine[0].flops, training, costs[model], change))
    return rows


def models_table(rows: Sequence[Row], reference: str | None = None) -> Table:
    """A row per model; in the CSV, an undefined spread is empty and an infinite mean is inf."""
    shown: list[dict[str, Cell]] = []
    exact: list[dict[str, Cell]] = []
    for row in rows:
        line: dict[str, Cell] = {"model": row.model, "seeds": len(next(iter(row.numbers.values())).values)}
        for key, number in row.numbers.items():
            line |= {key: number.mean, f"{key}_spread": _or_none(number.spread)}
        if reference is not None:
            line["auc_minus_reference"] = row.change
        line |= {"parameters": row.parameters, "flops_per_jet": row.flops, "seconds_per_jet": row.costs.seconds}
        line |= {"edges_kept": _or_none(row.costs.kept), "seconds_of_training": _or_none(row.training.mean)}
        exact.append(line)
        costs: dict[str, Cell] = {
            "parameters": row.parameters,
            "edges kept": _shown(row.costs.kept, ".2f"),
            "MFLOP/jet": f"{row.flops / 1e6:,.1f}",
            "ms/jet": f"{1e3 * row.costs.seconds:.3g}",
            "training [s]": _shown(row.training.mean, ",.0f"),
        }
        numbers: dict[str, Cell] = {heading(key): str(number) for key, number in row.numbers.items()}
        if reference is not None:
            numbers[f"AUC - {reference}"] = None if row.model == reference else row.change
        shown.append({"": row.model, **numbers, **costs})
    return Table("Each model over its seeds, on the same test jets.", shown, exact)


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else number


def _shown(number: float, form: str) -> str | None:
    return None if math.isnan(number) else format(number, form)


def runs_table(results: Sequence[Result]) -> Table:
    """A row per run, for a CSV; errors are those of the finite test set."""
    rows: list[dict[str, Cell]] = []
    for result in results:
        row: dict[str, Cell] = {"model": result.model, "seed": result.seed}
        row |= {**result.report, "auc_gain_over_multiplicity": result.gain}
        if result.change is not None:
            row["auc_minus_reference"] = result.change
        row |= {"parameters": result.parameters, "flops_per_jet": result.flops, "test_jets": result.jets}
        rows.append(row | {"seconds_of_training": _or_none(result.training)})
    return Table("Each run.", rows, rows)


def read_results(runs: Sequence[PlannedRun]) -> list[Result]:
    """Results of finished runs.

    Raises:
        RunError: a record is missing or damaged, or lacks a number that another record has.
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
                "folder of this run to retrain it"
            )
    return results


def with_changes(results: Sequence[Result], comparison: Comparison) -> list[Result]:
    """The results with the AUC minus that of the reference model of the same seed, on the same jets with their weights.

    Raises:
        RunError: the predictions of a run are missing or damaged.
    """
    if comparison.reference is None:
        return list(results)
    folders = {(run.model, run.config.seed): run.folder for run in comparison.runs}
    data = comparison.recipes[comparison.reference].data
    names = ("label", "logits", "weight") if data.weights else ("label", "logits")
    difference: Callable[..., Estimate] = macro_auc_difference
    if data.signal is not None:
        description = comparison.runs[0].folder / "model.json"
        signal = read_json(description, lambda found: list(found["classes"]).index(data.signal))
        difference = partial(auc_difference, signal=signal)
    found = []
    for result in results:
        models = (result.model, comparison.reference)
        mine, other = (_predictions(folders[model, result.seed], names) for model in models)
        change = difference(mine["label"], mine["logits"], other["logits"], weights=mine.get("weight"))
        found.append(replace(result, change=change))
    return found


def _predictions(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        with (folder / "predictions.npz").open("rb") as file, np.load(file) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise RunError(
            f"{folder / 'predictions.npz'}: missing or damaged ({error}); delete the folder of this run to retrain it"
        ) from error


def measure_costs(comparison: Comparison) -> tuple[dict[str, Costs], str]:
    """Costs of each model with the first seed, and a note on the measurement of time."""
    runs = comparison.runs[: len(comparison.recipes)]
    models = {run.model: load_run(run.folder).model for run in runs}
    batches = {run.model: some_batches(open_test_jets(run.config), TIMED_JETS) for run in runs}
    device = where_measured([run.folder for run in runs])
    how = how_measured(sum(map(len, batches[runs[0].model])), device)
    seconds = seconds_per_jet(models, batches, device)
    return {name: Costs(seconds[name], kept_edges(models[name], batches[name][0])) for name in models}, how


def kept_edges(model: nn.Module, jets: JetBatch) -> float:
    """Fraction of edges that a model keeps, self-edges included, mean over its layers; NaN if it has no attention."""
    if not isinstance(model, AttentionTagger):
        return math.nan
    kept = cost(model, jets).kept
    return float(sum(kept) / len(kept))


def _estimate(key: str, found: Mapping[str, float | None]) -> Estimate:
    # A rejection is never undefined: null means that no background passed.
    null = math.inf if key.startswith("rejection_at_") else math.nan
    return Estimate(*(null if found[name] is None else float(found[name]) for name in Estimate._fields))  # type: ignore[arg-type]
