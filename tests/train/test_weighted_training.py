"""Weights of jets and of classes, from the recipe to the report."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from toy_runs import settings, toy_jets, weights

from iagraph.data import StoreError, read_store, write_store
from iagraph.metrics import effective_number, macro_auc, roc_auc
from iagraph.testing import random_jets
from iagraph.train.datamodule import JetDataModule
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import read_history
from iagraph.train.module import Tagger, ValidationAUC
from iagraph.train.run import train

SPLITS = {"train": 300, "val": 80, "test": 120}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same jets with random weights and with unit weights."""
    folder, jets = tmp_path_factory.mktemp("weighted"), toy_jets(500, 1)
    drawn = np.random.default_rng(1).exponential(3, 500).astype(np.float32)
    for name, weight in (("drawn", drawn), ("ones", np.ones(500, np.float32)), ("none", None)):
        write_store(folder / f"{name}.h5", replace(jets, weight=weight), splits=SPLITS)
    return folder


def test_unit_weights_change_nothing(stores, tmp_path):
    runs = [
        train(settings(stores / f"{name}.h5", tmp_path, *more, "train.epochs=1"))
        for name, more in (("none", ()), ("ones", ["data.weights=true", "train.class_weights={gluon: 2, quark: 2}"]))
    ]
    one, other = map(weights, runs)
    assert all(one[name].equal(other[name]) for name in one)
    numbers = [json.loads((run / "metrics.json").read_text()) for run in runs]
    for key in ("tagger", "multiplicity"):
        for metric, expected in numbers[0][key].items():
            assert numbers[1][key][metric] == pytest.approx(expected)
    assert "effective_jets" not in numbers[0]
    assert sum(numbers[1]["effective_jets"].values()) == pytest.approx(120)
    losses = [[row[key] for row in read_history(run) for key in ("train_loss", "val_loss", "val_auc")] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_weights_reach_loss_metrics_and_report(stores, tmp_path):
    store = stores / "drawn.h5"
    run = train(settings(store, tmp_path, "data.weights=true", "train.epochs=1"))
    found = np.load(run / "predictions.npz")
    np.testing.assert_array_equal(found["weight"], read_store(store, "test").weight)
    metrics = json.loads((run / "metrics.json").read_text())
    auc = roc_auc(found["label"], found["logits"], weights=found["weight"])
    assert metrics["tagger"]["auc"] == pytest.approx(auc._asdict())
    assert auc.value != pytest.approx(roc_auc(found["label"], found["logits"]).value)
    effective = {k: effective_number(found["weight"][found["label"] == i]) for i, k in enumerate(("gluon", "quark"))}
    assert metrics["effective_jets"] == pytest.approx(effective)
    assert "Jets are weighted. Effective numbers of jets, (sum w)^2 / sum w^2: " in (run / "report.md").read_text()
    write_store(tmp_path / "val.h5", read_store(store, "val"))
    again = np.load(evaluate(run, str(tmp_path / "val.h5")) / "predictions.npz")
    losses = cross_entropy(
        torch.from_numpy(again["logits"]), torch.from_numpy(again["label"]), reduction="none"
    ).numpy()
    (epoch,) = read_history(run)
    assert epoch["val_loss"] == pytest.approx(np.average(losses, weights=again["weight"]), rel=1e-5)
    assert epoch["val_auc"] == pytest.approx(roc_auc(again["label"], again["logits"], weights=again["weight"]).value)


class LogitsOfMultiplicity(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([0.1, -0.1]))

    def forward(self, jets):
        return jets.ptr.diff()[:, None] * self.slope


@pytest.mark.parametrize("weighted", [True, False])
def test_weighted_loss_by_hand(stores, weighted):
    config = settings(
        stores / "drawn.h5", "runs", f"data.weights={str(weighted).lower()}", "train.class_weights.quark=3"
    )
    data = JetDataModule(config.data, 1)
    factors = data.loss_weights(config.train.class_weights)
    assert factors[1] == pytest.approx(3 * factors[0])
    tagger = Tagger(LogitsOfMultiplicity(), config.train, 1, 300, None, factors)
    tagger.log = lambda *_, **__: None
    tagger.trainer = type("Alone", (), {"world_size": 1})()
    jets = data.datasets["train"][:]
    loss = tagger.training_step(jets, 0)
    logits = jets.ptr.diff().numpy()[:, None] * np.array([0.1, -0.1])
    label = jets.y.numpy()
    losses = np.logaddexp(*logits.T) - logits[np.arange(300), label]
    w = np.where(label == 1, 3.0, 1.0) * (jets.weight.numpy() if weighted else 1)
    assert loss.item() == pytest.approx(np.average(losses, weights=w), rel=1e-5)  # their mean is one
    assert float(tagger.train_loss.compute()) == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_validation_auc_is_exact_over_batches(classes):
    rng = np.random.default_rng(3)
    label, logits, w = rng.integers(0, classes, 200), rng.normal(size=(200, classes)), rng.exponential(size=200)
    metric = ValidationAUC(1 if classes == 2 else None)
    for part in np.array_split(np.arange(200), 3):
        metric.update(*(torch.from_numpy(each[part]) for each in (logits, label, w)))
    expected = roc_auc(label, logits, weights=w) if classes == 2 else macro_auc(label, logits, w)
    assert float(metric.compute()) == pytest.approx(expected.value)


def test_validation_auc_tells_jets_apart_whose_probabilities_round_to_one():
    class Logits(torch.nn.Module):
        def forward(self, jets):
            return torch.tensor([[0.0, 20.0], [0.0, 30.0]])

    tagger = Tagger(Logits(), settings("jets.h5", "runs").train, 1)
    tagger.log = lambda *_, **__: None
    tagger.trainer = type("Validating", (), {"sanity_checking": False})()
    jets = random_jets([2, 3])
    assert jets.y.tolist() == [0, 1]
    tagger.validation_step(jets, 0)
    assert tagger.val_auc.compute() == 1


class TestRefusals:
    def test_missing_weights(self, stores):
        with pytest.raises(StoreError, match=r"none\.h5: its jets have no weights; write them as the weight of Jets"):
            JetDataModule(settings(stores / "none.h5", "runs", "data.weights=true").data, 1)

    def test_unknown_class(self, stores):
        data = JetDataModule(settings(stores / "none.h5", "runs").data, 1)
        with pytest.raises(StoreError, match=r"train\.class_weights: no class top; available: gluon, quark"):
            data.loss_weights({"top": 2.0})

    def test_class_of_zero_weight(self, stores, tmp_path):
        jets = read_store(stores / "drawn.h5")
        write_store(tmp_path / "jets.h5", replace(jets, weight=jets.weight * (jets.label == 1)), splits=SPLITS)
        with pytest.raises(StoreError, match="none of the 300 jets is of the class 'gluon'"):
            JetDataModule(settings(tmp_path / "jets.h5", "runs", "data.weights=true").data, 1)
