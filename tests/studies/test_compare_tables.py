import csv
import io
import math
from dataclasses import replace

import pytest

from iagraph.estimates import OverSeeds
from iagraph.metrics import Estimate
from iagraph.studies.compare.measure import Costs, Result, models_table, over_seeds, runs_table

NAN, INF = math.nan, math.inf


def result(model, seed, auc, rejection=25.0):
    report = {"auc": Estimate(auc, 0.004), "rejection_at_0.5": Estimate(rejection, rejection / 10)}
    shared = Estimate(0.83, 0.005), Estimate(0.05, 0.003), 52_453, 21_150_000.0, 6000
    return Result(model, seed, report, *shared, 300.0 + seed, Estimate(auc - 0.88, 0.003))


RESULTS = [
    result("A_1", 1, 0.880),
    result("B & C", 1, 0.87, INF),
    result("A_1", 2, 0.886),
    result("B & C", 2, 0.87, 30.0),
    result("A_1", 3, 0.883),
    result("B & C", 3, 0.87, 31.0),
]
COSTS = {"A_1": Costs(0.00125, 0.25), "B & C": Costs(0.0235, NAN)}
ROWS = over_seeds(RESULTS, COSTS)


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_mean_and_sample_standard_deviation():
    number = OverSeeds((0.880, 0.886, 0.883))
    assert number.mean == pytest.approx(0.883)
    assert number.spread == pytest.approx(0.003)  # sqrt((3^2 + 3^2 + 0^2) / 2) / 1000
    assert str(number) == "0.8830 +- 0.0030"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.88324,), "0.8832 +- -"),
        ((25.0, INF, 24.0), "infinite in 1 of 3"),
        ((INF,), "infinite in 1 of 1"),
        ((0.5, 0.5), "0.5 +- 0"),
    ],
)
def test_numbers_without_a_spread(values, text):
    assert str(OverSeeds(values)) == text


def test_models_table_columns_and_rows():
    assert models_table(ROWS).cells() == [
        ["", "AUC", "1/eB at 0.5", "parameters", "edges kept", "MFLOP/jet", "ms/jet", "training [s]"],
        ["A_1", "0.8830 +- 0.0030", "25 +- 0", "52,453", "0.25", "21.1", "1.25", "302"],
        ["B & C", "0.87 +- 0", "infinite in 1 of 3", "52,453", "-", "21.1", "23.5", "302"],
    ]
    (row,) = over_seeds([result("a", 1, 0.9)], {"a": Costs(1, 1)})
    assert models_table([row]).rows[0]["AUC"] == "0.9 +- -"


def test_differences_from_a_reference():
    heads, first, second = models_table(ROWS, "B & C").cells()
    at = heads.index("AUC - B & C")
    assert (first[at], second[at]) == ("0.0030 +- 0.0035", "-")  # sqrt(0.003^2 + 0.003^2 / 3)
    first, second = read(models_table(ROWS, "B & C").csv())
    assert float(first["auc_minus_reference"]) == pytest.approx(0.003)
    assert float(first["auc_minus_reference_error"]) == pytest.approx(math.sqrt(1.2e-5))


def test_csv_has_full_precision():
    first, second = read(models_table(ROWS).csv())
    assert (first["model"], first["seeds"]) == ("A_1", "3")
    assert float(first["auc"]) == (0.880 + 0.886 + 0.883) / 3
    assert float(first["auc_spread"]) == pytest.approx(0.003, rel=1e-12)
    assert (float(first["flops_per_jet"]), float(first["seconds_per_jet"])) == (21_150_000, 0.00125)
    assert (float(first["edges_kept"]), second["edges_kept"]) == (0.25, "")
    assert (second["rejection_at_0.5"], second["rejection_at_0.5_spread"]) == ("inf", "")


def test_runs_table_has_a_line_per_run():
    lines = read(runs_table(RESULTS).csv())
    assert [(line["model"], line["seed"]) for line in lines] == [(each.model, str(each.seed)) for each in RESULTS]
    assert [line["rejection_at_0.5"] for line in lines[:2]] == ["25.0", "inf"]
    assert {line["auc_error"] for line in lines} == {"0.004"}
    assert {line["auc_gain_over_multiplicity"] for line in lines} == {"0.05"}


def test_null_means_infinite_rejection_or_undefined_error():
    metrics = {
        "jets": 7,
        "tagger": {"auc": {"value": 1.0, "error": None}, "rejection_at_0.3": {"value": None, "error": None}},
        "multiplicity": {"auc": {"value": 0.7, "error": 0.1}},
        "auc_gain_over_multiplicity": {"value": 0.5, "error": None},
        "cost": {"parameters": 3, "flops_per_jet": 5.0},
    }
    found = Result.from_metrics("A", 2, metrics)
    assert found.report["rejection_at_0.3"] == (INF, INF)
    assert found.report["auc"].value == 1
    assert math.isnan(found.report["auc"].error)
    assert found.multiplicity == (0.7, 0.1)
    assert math.isnan(found.training)  # not recorded by earlier versions
    assert (found.seed, found.parameters, found.flops, found.jets) == (2, 3, 5, 7)


def test_many_classes():
    report = {"auc": Estimate(0.9, 0.1), "rejection_at_0.995/T_bl": Estimate(50.0, 1.0)}
    (row,) = over_seeds([replace(RESULTS[0], report=report)], COSTS)
    assert models_table([row]).cells()[0][:4] == ["", "AUC", "1/eB T_bl at 0.995", "parameters"]
