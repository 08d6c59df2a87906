import json
from pathlib import Path

import pytest
import torch
from toy_runs import settings, toy_jets

from iagraph.data import write_store
from iagraph.interpret.deletion import FRACTIONS
from iagraph.interpret.particles import keep, ranks
from iagraph.interpret.relevance import evidence, layerwise_relevance
from iagraph.metrics import roc_auc
from iagraph.studies.attribution.measure import CONTROLS, LEAST, METHODS, MOST, measure, relevances
from iagraph.studies.attribution.study import deletion_table, fraction_tables, study
from iagraph.studies.runs import Plan, open_run
from iagraph.train.folder import RunError
from iagraph.train.run import train_into


@pytest.fixture(scope="module")
def found(toy_run):
    run = open_run(toy_run, 67)  # more than a batch
    return run, measure(run)


def test_jets_are_counted_once(found):
    run, numbers = found
    assert run.truth.labels.tolist() == [label for batch in run.batches for label in batch.y.tolist()]
    assert set(numbers.classes.tolist()) == {run.run.classes.index("quark")}
    orders = {(method, first) for method in METHODS for first in (MOST, LEAST)} | {(name, "") for name in CONTROLS}
    assert set(numbers.logits) == orders
    for logits in numbers.logits.values():
        assert logits.shape == (len(FRACTIONS), 67, 2)
        torch.testing.assert_close(logits[0], torch.cat([run.model(batch).detach() for batch in run.batches]))
    sizes = torch.cat([batch.ptr.diff() for batch in run.batches])
    for name in ("pt", "distance"):
        torch.testing.assert_close(numbers.particles[name].sum(1), sizes.float())
        for method in METHODS:
            torch.testing.assert_close(numbers.relevance[method][name].sum(1), sizes.float(), rtol=1e-4, atol=1e-4)


def test_supporting_particles_are_dropped_first(found):
    run, numbers = found
    jets = run.batches[0].part(20, 40)  # across the jets that are taken at once
    classes = numbers.classes[20:40]
    value = evidence(run.model(jets), classes).detach()
    towards = layerwise_relevance(run.model, jets, classes) * value.sign()[jets.batch]
    dropped = (0.5 * jets.ptr.diff()).long()
    expected = run.model(keep(jets, ranks(towards, jets) >= dropped[jets.batch]))
    place = FRACTIONS.index(0.5)
    torch.testing.assert_close(numbers.logits["LRP", MOST][place, 20:40], expected.detach(), rtol=1e-4, atol=1e-4)
    assert len(set(value.sign().tolist())) == 2


def test_relevance_in_parts_equals_the_whole(found):
    run, numbers = found
    for name, relevance in relevances(run.model, run.batches[0], numbers.classes[:64]).items():
        whole = METHODS[name](run.model, run.batches[0], numbers.classes[:64])
        torch.testing.assert_close(relevance, whole, rtol=1e-3, atol=1e-5)


def test_tables(found):
    run, numbers = found
    rows = deletion_table(numbers, run.truth).rows
    assert [row["order"] for row in rows] == [*METHODS, *CONTROLS]
    first = numbers.logits["LRP", MOST][0]
    dropped = numbers.logits["LRP", MOST][FRACTIONS.index(0.2)].numpy()
    row = next(row for row in rows if row["order"] == "LRP")
    assert row["AUC, 20% dropped"] == roc_auc(run.truth.labels, dropped, 1)
    # IAFormer reads a jet by the mean: of its last block only the bias of the head is missing.
    bias = (run.model.head.bias[1] - run.model.head.bias[0]).abs().item()
    values = (first[:, 1] - first[:, 0]).abs().mean().item()
    assert rows[0]["absolute rest / evidence"].value == pytest.approx(bias / values, rel=1e-3)
    shares = [row["pT"].value for row in fraction_tables(numbers)["hardest"].rows]
    assert shares == sorted(shares)


def test_study_writes_tables_figures_and_displays(toy_run, tmp_path):
    folder = study(Plan([toy_run], tmp_path / "attribution", 20, "iagraph study attribution toy"))
    written = {path.name for path in folder.iterdir()}
    figures = {f"{name}.{kind}" for name in ("deletion", "maps", "profiles", "attention") for kind in ("png", "pdf")}
    assert figures <= written
    assert {"deletion.csv", "hardest.csv", "species.csv", "table.md"} <= written
    page = (folder / "section.html").read_text()
    assert page.count('<script type="application/json">') == 4  # two jets of each class
    report = json.loads((folder / "report.json").read_text())
    assert len(report["tables"]["deletion"]) == 7


def test_more_than_two_classes_and_no_species(tmp_path):
    jets = toy_jets(300, 1, classes=3)
    del jets.particles["pid"]
    write_store(tmp_path / "three.h5", jets, splits={"train": 160, "val": 60, "test": 80})
    config = settings(tmp_path / "three.h5", tmp_path, "data.signal=null", "data.node_features=kin", "train.epochs=1")
    train_into(tmp_path / "run", config)
    run = open_run(tmp_path / "run", 20)
    numbers = measure(run)
    assert "species" not in fraction_tables(numbers)
    assert deletion_table(numbers, run.truth).rows[0]["AUC, 20% dropped"].error > 0
    assert numbers.classes.equal(numbers.logits["LRP", MOST][0].argmax(1))


def test_empty_jets(empty_run, tmp_path):
    folder = study(Plan([empty_run], tmp_path / "attribution", 20))
    assert (folder / "profiles.png").is_file()
    assert not (folder / "species.csv").exists()


def test_several_runs_are_refused(toy_run, tmp_path):
    with pytest.raises(RunError, match="'attribution' takes one run, not 2"):
        study(Plan([toy_run, Path("other")], tmp_path / "attribution", 40, ""))
    assert list(tmp_path.iterdir()) == []
