"""Results of the finished runs of a comparison, and inference times of their models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from iagraph.estimates import OverSeeds
from iagraph.metrics import Estimate
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
    """

    model: str
    seed: int
    report: dict[str, Estimate]
    multiplicity: Estimate
    gain: Estimate
    parameters: int
    flops: float
    jets: int

    @classmethod
    def from_metrics(cls, model: str, seed: int, metrics: Mapping[str, Any]) -> Result:
        """Result from the content of ``metrics.json``, in which null stands for an infinite or undefined number."""
        report = {key: _estimate(key, value) for key, value in metrics["tagger"].items()}
        multiplicity = _estimate("auc", metrics["multiplicity"]["auc"])
        gain = _estimate("gain", metrics["auc_gain_over_multiplicity"])
        cost = metrics["cost"]
        counts = cost["parameters"], cost["flops_per_jet"], metrics["jets"]
        return cls(model, seed, report, multiplicity, gain, *counts)


@dataclass(frozen=True)
class Row:
    """Results of a model over its seeds (``numbers``, by key in the report), and its cost."""

    model: str
    numbers: dict[str, OverSeeds]
    parameters: int
    flops: float
    seconds: float


def over_seeds(results: Sequence[Result], seconds: Mapping[str, float]) -> list[Row]:
    """A row per model, in order of appearance; ``seconds`` is the time per jet of each."""
    rows = []
    for model in dict.fromkeys(result.model for result in results):
        mine = [result for result in results if result.model == model]
        numbers = {key: OverSeeds(tuple(result.report[key].value for result in mine)) for key in mine[0].report}
        rows.append(Row(model, numbers, mine[0].parameters, mine[0].flops, seconds[model]))
    return rows


def models_table(rows: Sequence[Row]) -> Table:
    """A row per model; in the CSV, an undefined spread is empty and an infinite mean is inf."""
    shown: list[dict[str, Cell]] = []
    exact: list[dict[str, Cell]] = []
    for row in rows:
        line: dict[str, Cell] = {"model": row.model, "seeds": len(next(iter(row.numbers.values())).values)}
        for key, number in row.numbers.items():
            line |= {key: number.mean, f"{key}_spread": None if math.isnan(number.spread) else number.spread}
        exact.append(line | {"parameters": row.parameters, "flops_per_jet": row.flops, "seconds_per_jet": row.seconds})
        costs = {"MFLOP/jet": f"{row.flops / 1e6:,.1f}", "ms/jet": f"{1e3 * row.seconds:.3g}"}
        numbers = {heading(key): str(number) for key, number in row.numbers.items()}
        shown.append({"": row.model, **numbers, "parameters": row.parameters, **costs})
    return Table("Each model over its seeds, on the same test jets.", shown, exact)


def runs_table(results: Sequence[Result]) -> Table:
    """A row per run, for a CSV; errors are those of the finite test set."""
    rows: list[dict[str, Cell]] = []
    for result in results:
        row: dict[str, Cell] = {"model": result.model, "seed": result.seed}
        row |= {**result.report, "auc_gain_over_multiplicity": result.gain}
        rows.append(row | {"parameters": result.parameters, "flops_per_jet": result.flops, "test_jets": result.jets})
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


def measure_times(comparison: Comparison) -> tuple[dict[str, float], str]:
    """Time per jet of each model with the first seed, and a note on the measurement."""
    runs = comparison.runs[: len(comparison.recipes)]
    models = {run.model: load_run(run.folder).model for run in runs}
    batches = {run.model: some_batches(open_test_jets(run.config), TIMED_JETS) for run in runs}
    device = where_measured([run.folder for run in runs])
    how = how_measured(sum(map(len, batches[runs[0].model])), device)
    return seconds_per_jet(models, batches, device), how


def _estimate(key: str, found: Mapping[str, float | None]) -> Estimate:
    # A rejection is never undefined: null means that no background passed.
    null = math.inf if key.startswith("rejection_at_") else math.nan
    return Estimate(*(null if found[name] is None else float(found[name]) for name in Estimate._fields))  # type: ignore[arg-type]
