"""Power laws of learning curves, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from iagraph.metrics import Estimate
from iagraph.studies.compare.measure import Result, Row, models_table, runs_table
from iagraph.studies.figures import REJECTION
from iagraph.tables import Cell, Table
from iagraph.train.evaluation import heading


class PowerLaw(NamedTuple):
    r"""A number that grows or falls with the number of training jets, :math:`y = y^* (N / N^*)^k`.

    Attributes:
        exponent: :math:`k`.
        extrapolated: :math:`y^*`, its value at the number of jets :math:`N^*` that it is extrapolated to.
    """

    exponent: Estimate
    extrapolated: Estimate


def power_law(jets: Sequence[int], values: Sequence[Estimate], number: int) -> PowerLaw:
    r"""Fit of a power law to single runs: a straight line of :math:`\ln y` against :math:`\ln N`, by least squares.

    Errors follow from the scatter of the runs about the line, which includes deviations from a power law. That of the
    extrapolated value also includes, in quadrature, the relative error of the finite test set, which all runs share.

    Args:
        jets: number of training jets of each run.
        values: the number measured in each, with the error of the finite test set.
        number: number of jets to extrapolate to.

    Returns:
        The power law; NaN if a value is infinite or zero, with NaN errors for fewer than three runs.
    """
    found = np.array(values)
    if not (np.isfinite(found[:, 0]).all() and (found[:, 0] > 0).all()):
        return PowerLaw(Estimate(math.nan, math.nan), Estimate(math.nan, math.nan))
    x, y = np.log(np.array(jets) / number), np.log(found[:, 0])
    if len(x) > 2:
        (exponent, start), covariance = np.polyfit(x, y, 1, cov=True)
        errors = np.sqrt(np.diag(covariance))
    else:
        (exponent, start), errors = np.polyfit(x, y, 1), np.full(2, math.nan)
    value = math.exp(start)
    of_test_jets = float((found[:, 1] / found[:, 0]).mean())
    error = value * math.hypot(errors[1], of_test_jets)
    return PowerLaw(Estimate(float(exponent), float(errors[0])), Estimate(value, error))


def power_laws(found: Mapping[int, Sequence[Result]], number: int) -> dict[str, dict[str, PowerLaw]]:
    """By model, the power law of 1 - AUC and, with two classes, that of the background rejection at 0.5.

    Args:
        found: results of all runs by number of training jets.
        number: number of training jets to extrapolate to.
    """
    laws: dict[str, dict[str, PowerLaw]] = {}
    pairs = [(jets, result) for jets, results in found.items() for result in results]
    for model in dict.fromkeys(result.model for _, result in pairs):
        mine = [(jets, result.report) for jets, result in pairs if result.model == model]
        numbers = [jets for jets, _ in mine]
        lost = [Estimate(1 - report["auc"].value, report["auc"].error) for _, report in mine]
        laws[model] = {"auc": power_law(numbers, lost, number)}
        if REJECTION in mine[0][1]:
            laws[model][REJECTION] = power_law(numbers, [report[REJECTION] for _, report in mine], number)
    return laws


def curve_table(points: Mapping[int, Sequence[Row]], reference: str | None) -> Table:
    """A row per model and number of training jets."""
    tables = {jets: models_table(rows, reference) for jets, rows in points.items()}
    shown: list[dict[str, Cell]] = []
    exact: list[dict[str, Cell]] = []
    for at in range(len(next(iter(points.values())))):
        for jets, table in tables.items():
            assert table.exact is not None
            shown.append({"": table.rows[at][""], "training jets": jets, **table.rows[at]})
            exact.append({"model": table.exact[at]["model"], "training_jets": jets, **table.exact[at]})
    return Table("Each model at each number of training jets, over its seeds, on the same test jets.", shown, exact)


def laws_table(laws: Mapping[str, Mapping[str, PowerLaw]], number: int) -> Table:
    """A row per model with its exponents and its extrapolated performance."""
    rows: list[dict[str, Cell]] = []
    for model, each in laws.items():
        row: dict[str, Cell] = {"": model}
        for key, (exponent, value) in each.items():
            name = heading(key)
            row[f"exponent of {'1 - AUC' if key == 'auc' else name}"] = exponent
            shown = Estimate(1 - value.value, value.error) if key == "auc" else value
            row[f"{name}, extrapolated to {number:,} jets"] = shown
        rows.append(row)
    return Table(
        "Power laws in the number of training jets, and what they would give. Nothing was trained there.", rows
    )


def all_runs_table(found: Mapping[int, Sequence[Result]]) -> Table:
    """A row per run, for a CSV."""
    rows = [{"training_jets": jets, **row} for jets, results in found.items() for row in runs_table(results).rows]
    return Table("Each run.", rows, rows)
