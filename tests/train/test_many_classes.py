"""Runs on more than two classes, from the store to the report."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_figures import figures
from sklearn.metrics import roc_auc_score
from toy_runs import CLASSES, FILES, settings, toy_jets, weights

from iagraph.data import JetDataset, Jets, read_store, write_store
from iagraph.kinematics import from_cartesian
from iagraph.metrics import background_rejection, macro_auc_difference
from iagraph.train.config import load_config
from iagraph.train.evaluate import evaluate
from iagraph.train.evaluation import Evaluation, MultiplicityTagger
from iagraph.train.figures import class_roc_curves
from iagraph.train.folder import RunError, build_model, read_history
from iagraph.train.run import train

REAL = Path(os.environ.get("IAGRAPH_TEST_DATA", Path(__file__).parents[3] / "shared" / "data")) / "jetclass_excerpt.npz"
JETCLASS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")
SPLITS = {"train": 300, "val": 80, "test": 120}


@pytest.fixture(scope="module", params=[3, 10], ids=lambda classes: f"{classes} classes")
def finished(request, tmp_path_factory):
    """A run on as many classes, all features used, one class with a working point of its own."""
    folder = tmp_path_factory.mktemp("many")
    jets = toy_jets(500, 1, request.param)
    # Sorted by class within each part, as the files of JetClass are: the first batches hold one class only.
    order = [
        begin + np.argsort(jets.label[begin:end], kind="stable") for begin, end in ((0, 300), (300, 380), (380, 500))
    ]
    write_store(folder / "toy.h5", jets.take(np.concatenate(order)), splits=SPLITS)
    own = "data.signal_efficiency.quark=0.9"
    with figures("drawn"):
        return train(settings(folder / "toy.h5", folder, *MANY, own, "train.learning_rate=1e-2"))


MANY = ("data.signal=null", "data.node_features=full", "data.batch_size=16")


def predictions(run):
    found = np.load(run / "predictions.npz", allow_pickle=False)
    return found["label"], found["logits"], found["multiplicity"]


def test_folder_is_complete(finished):
    assert {path.name for path in finished.iterdir()} == FILES | {"figures", "log", "checkpoints"}
    figures = {f"{name}.{suffix}" for name in ("loss", "roc", "confusion") for suffix in ("png", "pdf")}
    assert {path.name for path in (finished / "figures").iterdir()} == figures


def test_metrics_follow_from_the_predictions(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    label, logits, multiplicity = predictions(finished)
    classes = CLASSES[: logits.shape[1]]
    assert logits.shape == (120, len(classes))
    odds = np.exp(logits.astype(np.float64))
    auc = roc_auc_score(label, odds / odds.sum(1, keepdims=True), multi_class="ovr", average="macro")
    assert metrics["tagger"]["auc"]["value"] == pytest.approx(auc)
    assert metrics["tagger"]["accuracy"]["value"] == pytest.approx(np.mean(logits.argmax(1) == label))
    working_points = {"accuracy", "auc", "rejection_at_0.9/quark"} | {
        f"rejection_at_0.5/{name}" for name in classes[2:]
    }
    assert set(metrics["tagger"]) == set(metrics["multiplicity"]) == working_points
    value, _ = background_rejection(label, logits, 0.9, 1, background=0)
    assert metrics["tagger"]["rejection_at_0.9/quark"]["value"] == pytest.approx(value)
    assert (metrics["background"], metrics["jets"]) == ("gluon", 120)
    assert "signal" not in metrics
    tagger = MultiplicityTagger(**json.loads((finished / "model.json").read_text())["multiplicity"])
    gain = macro_auc_difference(label, logits, tagger(multiplicity))
    assert metrics["auc_gain_over_multiplicity"] == pytest.approx(gain._asdict())
    # The classes differ only by multiplicity, which both have partly learned.
    assert metrics["multiplicity"]["auc"]["value"] > 0.7
    assert auc > 0.7


def test_report_has_a_column_per_signal(finished):
    heading, _, tagger, alone, _, gain, *_ = (finished / "report.md").read_text().splitlines()
    classes = json.loads((finished / "model.json").read_text())["classes"]
    signals = ["1/eB quark at 0.9", *(f"1/eB {name} at 0.5" for name in classes[2:])]
    columns = ["accuracy", "AUC", *signals, "parameters", "MFLOP/jet", "jets/s"]
    assert [column.strip() for column in heading.strip("|").split("|")] == ["", *columns]
    assert len(tagger.split("|")) == len(alone.split("|")) == len(heading.split("|"))
    assert alone.split("|")[-4].strip() == str(2 * len(classes) - 2)
    assert re.search(r"\b120 jets\b.*\bgluon\b", gain)


def test_validation_auc_is_the_exact_macro_average(finished):
    model = build_model(load_config(finished / "config.yaml"), CLASSES[: predictions(finished)[1].shape[1]]).eval()
    best = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    model.load_state_dict(weights(finished))
    jets = JetDataset(read_store(finished.parent / "toy.h5", "val"), masses="zero")  # as the recipe has it
    with torch.no_grad():
        probabilities = model(jets[:]).softmax(1)
    expected = roc_auc_score(jets.label, probabilities, multi_class="ovr", average="macro")
    assert read_history(finished)[best["epoch"]]["val_auc"] == pytest.approx(expected, abs=1e-5)


def test_evaluating_again_gives_the_same(finished):
    folder = evaluate(finished)
    before, after = (json.loads((place / "metrics.json").read_text()) for place in (finished, folder))
    for key in ("tagger", "multiplicity", "auc_gain_over_multiplicity", "jets", "background"):
        assert after[key] == before[key]


def test_impact_parameters_reach_the_network(finished, tmp_path):
    jets = read_store(finished.parent / "toy.h5", "test")
    moved = {name: column + 0.3 if name == "d0" else column for name, column in jets.particles.items()}
    write_store(tmp_path / "moved.h5", Jets(moved, jets.offsets, jets.label, jets.classes))
    _, logits, _ = predictions(evaluate(finished, str(tmp_path / "moved.h5")))
    assert np.abs(logits - predictions(finished)[1]).max() > 1e-4


def test_description_of_an_older_version(finished, tmp_path):
    for name in ("config.yaml", "model.pt", "trained_on.npy"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    description = json.loads((finished / "model.json").read_text())
    description["multiplicity"] = {"slope": 0.1, "intercept": 2.0}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(RunError, match=r"model\.json is damaged or does not match config\.yaml \(.*slope"):
        evaluate(tmp_path)


def test_real_jets_of_ten_classes(tmp_path):
    if not REAL.is_file():
        pytest.skip(f"no {REAL}: set IAGRAPH_TEST_DATA to the folder that holds this excerpt of JetClass")
    excerpt = np.load(REAL)
    momenta = from_cartesian(*torch.from_numpy(excerpt["p4"].astype(np.float64)).unbind(1))
    columns = {name: component.float().numpy() for name, component in momenta._asdict().items()}
    offsets = np.concatenate([[0], excerpt["counts"].cumsum()])
    order = np.random.default_rng(1).permutation(250)
    jets = Jets(columns, offsets, excerpt["label"].astype(np.int64), JETCLASS).take(order)
    write_store(tmp_path / "jets.h5", jets, splits={"train": 120, "val": 60, "test": 70})
    changes = ("data.signal=null", "data.node_features=kin", "train.epochs=1")
    run = train(settings(tmp_path / "jets.h5", tmp_path, *changes, "data.signal_efficiency={Hqql: 0.99, Tbl: 0.995}"))
    label, logits, multiplicity = predictions(run)
    assert np.isfinite(logits).all()
    assert label.tolist() == jets.label[180:].tolist()
    assert multiplicity.tolist() == jets.counts[180:].tolist()
    heading = (run / "report.md").read_text().splitlines()[0]
    assert "| 1/eB H4q at 0.5 | 1/eB Hqql at 0.99 | 1/eB Zqq at 0.5 |" in heading
    assert "| 1/eB Tbl at 0.995 |" in heading


def test_figures_show_the_tagger_at_the_working_points():
    random = np.random.default_rng(0)
    labels, classes, points = random.integers(0, 3, 400), ("QCD", "Hbb", "Tbl"), {"Tbl": 0.9}
    logits, baseline = (random.normal(size=(400, 3)) + k * np.eye(3)[labels] for k in (2, 0.5))
    evaluation = Evaluation(labels, np.ones(400, int), logits, baseline, classes, None, points, {}, {})
    figures = evaluation.figures("iaformer")
    assert set(figures) == {"roc", "confusion"}
    drawn, expected = (
        [line.get_xydata() for line in figure.axes[0].get_lines()]
        for figure in (figures["roc"], class_roc_curves(labels, logits, classes, points))
    )
    assert len(drawn) == len(expected) > 1
    for one, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(one, other)
