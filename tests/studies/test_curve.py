"""Learning curves: power laws known beforehand, and a study of tiny models."""

import csv
import json
import math
import re

import numpy as np
import pytest
from studies.conftest import write_comparison
from studies.test_compare_figures import row

from iagraph.data import read_store
from iagraph.estimates import OverSeeds
from iagraph.metrics import Estimate
from iagraph.studies.curve.config import load_curve
from iagraph.studies.curve.figures import learning_curves
from iagraph.studies.curve.measure import power_law
from iagraph.studies.curve.study import curve
from iagraph.train.folder import load_run
from iagraph.train.run import train_into
from iagraph.yaml_config import ConfigError

TINY = ["train.epochs=1"]


@pytest.fixture
def write(store, tmp_path):
    def write(jets="[60, null]", **changes):
        path = write_comparison(tmp_path, store, overrides=TINY, **changes)
        path.write_text(f"{path.read_text()}jets: {jets}\nextrapolate: 5000\n")
        return path

    return write


def test_a_power_law_is_found_exactly():
    jets = [100, 300, 1000, 1000]
    exponent, value = power_law(jets, [Estimate(7 * n**-0.25, 0.0) for n in jets], 10_000)
    assert exponent.value == pytest.approx(-0.25, rel=1e-12)
    assert value.value == pytest.approx(0.7, rel=1e-12)
    assert max(exponent.error, value.error) < 1e-12


def test_errors_of_a_power_law_by_hand():
    # ln y = 0, 1, 1 at x = -2, -1, 0: slope 1/2, start 7/6, squared residuals sum to 1/6, one degree of freedom
    jets = [1 / math.e**2, 1 / math.e, 1]
    exponent, value = power_law(jets, [Estimate(y, 0.1 * y) for y in (1.0, math.e, math.e)], 1)
    assert exponent == pytest.approx(
        (0.5, math.sqrt(1 / 6 / 2))
    )  # variance of the slope: 1/6 over sum (x - mean)^2 = 2
    start = math.exp(7 / 6)
    assert value == pytest.approx((start, start * math.hypot(math.sqrt(1 / 6 * (1 / 3 + 1 / 2)), 0.1)))


@pytest.mark.parametrize("bad", [math.inf, 0.0])
def test_no_power_law_without_finite_values(bad):
    law = power_law([10, 20, 40], [Estimate(1.0, 0.1), Estimate(bad, 0.1), Estimate(2.0, 0.1)], 80)
    assert np.isnan(law).all()


def test_two_runs_give_no_error():
    exponent, value = power_law([10, 20], [Estimate(1.0, 0.1), Estimate(2.0, 0.1)], 40)
    assert (exponent.value, value.value) == pytest.approx((1, 4))
    assert math.isnan(exponent.error)
    assert math.isnan(value.error)


def test_curve_of_tiny_models(write, store, capsys):
    plan = load_curve(write(seeds=[1]))
    for run in (run for part in plan.parts for run in part.runs):
        train_into(run.folder, run.config)
    before = {path: path.stat().st_mtime_ns for path in plan.folder.rglob("metrics.json")}
    folder = curve(plan, command="iagraph study curve toy")
    said = capsys.readouterr().out
    assert said.count("(finished before)") == len(before) == 4
    assert "Q & K, seed 1, 60 jets: AUC " in said
    assert "Q & K, seed 1: AUC " in said
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(line["model"], int(line["training_jets"])): float(line["auc"]) for line in rows}
    for jets, place in ((60, "jets-60"), (300, "jets-all")):
        for model, name in (("IAFormer", "iaformer"), ("Q & K", "q-k")):
            run = folder / place / name / "seed-1"
            assert found[model, jets] == json.loads((run / "metrics.json").read_text())["tagger"]["auc"]["value"]
            assert load_run(run).config.data.max_jets == (60 if jets == 60 else None)
    first, *_ = (np.load(folder / place / "q-k" / "seed-1" / "trained_on.npy") for place in ("jets-60", "jets-all"))
    assert set(first) <= set(read_store(store, "train").digests())
    with (folder / "fits.csv").open() as file:
        fits = {line[""]: line for line in csv.DictReader(file)}
    for model in ("IAFormer", "Q & K"):
        lost = [1 - found[model, jets] for jets in (60, 300)]
        exponent = math.log(lost[1] / lost[0]) / math.log(300 / 60)
        assert float(fits[model]["exponent of 1 - AUC"]) == pytest.approx(exponent)
        extrapolated = 1 - lost[1] * (5000 / 300) ** exponent
        assert float(fits[model]["AUC, extrapolated to 5,000 jets"]) == pytest.approx(extrapolated)
    text = (folder / "table.md").read_text()
    assert re.search("^- extrapolated: nothing was trained there", text, flags=re.MULTILINE)
    assert "300 training jets, 120 test jets" in text
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")} == before


@pytest.mark.parametrize(
    ("jets", "message"),
    [
        ("[60, 3000]", r"jets: \[60, 3000\] should ascend up to .* training jets, and use 60, 300; leave some out"),
        ("[300, null]", r"jets: \[300, null\] should ascend .* use 300, 300"),
        ("[90, 60]", r"jets: \[90, 60\] should ascend .* use 90, 60"),
    ],
)
def test_impossible_numbers_of_jets_are_refused_before_training(write, tmp_path, jets, message):
    with pytest.raises(ConfigError, match=message):
        curve(load_curve(write(jets)))
    assert not (tmp_path / "studies").exists()


def test_one_number_is_no_curve(write):
    with pytest.raises(ConfigError, match="'jets' should have at least 2 items"):
        load_curve(write("[60]"))


def test_figure_shows_means_and_extrapolations():
    points = {jets: [row(0, (1 - 2 * jets**-0.25,) * 2, (jets**0.5,) * 2)] for jets in (100, 10_000)}
    points[10_000][0].numbers["rejection_at_0.5"] = OverSeeds((math.inf, 1.0))
    laws = {"model 0": {"auc": power_law([100, 10_000], [Estimate(2 * n**-0.25, 0.0) for n in points], 10**8)}}
    laws["model 0"]["rejection_at_0.5"] = power_law([100, 1], [Estimate(math.inf, 0.0)] * 2, 10**8)
    auc, rejection = learning_curves(points, laws, 10**8).axes
    means, end = (container[0] for container in auc.containers)
    assert means.get_ydata() == pytest.approx([1 - 2 / math.sqrt(10), 0.8])
    assert (end.get_xdata()[0], end.get_ydata()[0]) == (10**8, pytest.approx(0.98))
    solid, dotted = (line for line in auc.get_lines() if len(line.get_xdata()) > 2)
    assert (solid.get_xdata()[-1], dotted.get_xdata()[0], dotted.get_linestyle()) == (10_000, 10_000, ":")
    assert solid.get_ydata()[-1] == pytest.approx(0.8)
    assert [math.isnan(value) for value in rejection.containers[0][0].get_ydata()] == [False, True]
