import json
import math
import re

import pytest
from matplotlib.figure import Figure
from toy_runs import settings

from iagraph.metrics import Estimate
from iagraph.studies.report import Section, write_report, write_study
from iagraph.studies.runs import open_run
from iagraph.tables import Table
from iagraph.train.folder import RunError
from iagraph.train.run import train_into


def a_figure():
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([1, 2])
    return figure


def a_section(title="Binary & <sparse>", caption="Weights of layers.", **more):
    rows = [
        {"layer": "first", "share": Estimate(0.1234, 0.012), "edges": 12345, "beta": None},
        {"layer": "last", "share": Estimate(0.5, 0.1), "edges": 7, "beta": 1 / 3},
    ]
    return Section(title, {"layers": Table(caption, rows)}, {"weights": (a_figure(), "A figure.")}, ["a note"], **more)


@pytest.fixture(scope="module")
def run(toy_run):
    return open_run(toy_run, 50)


def test_write_study_files(run, tmp_path):
    section = a_section(numbers={"rate": math.nan, "all": [Estimate(1.0, 2.0)]}, live=["<p>live</p>"])
    folder = write_study("sparsity", tmp_path / "studies" / "sparsity", section, [run], "iagraph study sparsity R")
    names = {"layers.csv", "layers.tex", "weights.png", "weights.pdf", "report.json", "section.html", "table.md"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "table.md").read_text() == (
        "Weights of layers.\n\n| layer | share | edges | beta |\n| --- | --- | --- | --- |\n"
        "| first | 0.123 +- 0.012 | 12,345 | - |\n| last | 0.50 +- 0.10 | 7 | 0.3333 |\n\n"
        "- a note\n- `iagraph study sparsity R`\n"
    )
    assert (folder / "layers.csv").read_text().splitlines()[:2] == [
        "layer,share,share error,edges,beta",
        "first,0.1234,0.012,12345,",
    ]
    report = json.loads((folder / "report.json").read_text())
    assert report["numbers"] == {"rate": None, "all": [{"value": 1.0, "error": 2.0}]}
    assert report["tables"]["layers"][1]["beta"] == pytest.approx(1 / 3)
    assert report["runs"] == {run.name: {"path": str(run.path), "jets": 50}}
    assert report["configs"][run.name]["model"]["name"] == "iaformer"


def test_record_has_exact_rows(run, tmp_path):
    table = Table("Models.", [{"": "A", "AUC": "0.88"}], [{"model": "A", "auc": 0.8812345}])
    folder = write_study("sparsity", tmp_path / "a", Section("Models", {"table": table}, {}), [run], "")
    assert json.loads((folder / "report.json").read_text())["tables"]["table"] == [{"model": "A", "auc": 0.8812345}]
    assert "| A | 0.88 |" in (folder / "table.md").read_text()


def test_report_joins_studies_in_one_file(run, tmp_path):
    write_study("sparsity", tmp_path / "b", a_section("Second"), [run], "")
    write_study("sparsity", tmp_path / "a", a_section("First", live=["<p>moves</p>"]), [run], "")
    write_study("sparsity", tmp_path / "b", a_section("Third & last"), [run], "")
    page = (tmp_path / "report.html").read_text()
    assert re.findall("<h2>(.*?)</h2>", page) == ["First", "Third &amp; last"]
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<p>moves</p>" in page
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "report.html"}


def test_report_includes_pruning_and_comparison_of_a_run(run, tmp_path):
    folder, runs = tmp_path / "toy", [tmp_path / "compared" / "iaformer" / "seed-1"]
    runs.append(tmp_path / "curve" / "jets-1000" / "iaformer" / "seed-1")
    write_study("sparsity", folder / "a", a_section("First"), [run], "")
    for name in ("prune-toy", "compared", "prune-other", "curve"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "section.html").write_text(f"<section><h2>{name}</h2></section>")
    write_report(folder, runs)
    assert re.findall("<h2>(.*?)</h2>", (folder / "report.html").read_text()) == [
        *("First", "prune-toy", "compared", "curve")
    ]


def test_failure_keeps_earlier_files(run, tmp_path):
    folder = write_study("sparsity", tmp_path / "a", a_section(), [run], "")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        write_study("sparsity", folder, a_section("Other", numbers={"bad": object()}), [run], "")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"a", "report.html"}


def test_open_run_has_jets_of_each_class_with_labels(run):
    assert run.jets == 50
    assert set(run.batches[0].y.tolist()) == {0, 1}
    assert not run.model.training
    assert run.name == "toy"


def test_models_without_attention_are_refused(store, tmp_path):
    config = settings(
        store,
        tmp_path,
        "data.pair_features=null",
        "model={name: particlenet, channels: [[3]], neighbors: 2, head_hidden: 3, dropout: 0.1}",
        "train.epochs=1",
    )
    train_into(tmp_path / "net", config)
    with pytest.raises(RunError, match=r"net: particlenet has no attention among particles; these have: iaformer, .*"):
        open_run(tmp_path / "net", 20)


def test_too_few_jets(toy_run):
    with pytest.raises(RunError, match=r"none of the 1 jets is of the class .*--jets"):
        open_run(toy_run, 1)
