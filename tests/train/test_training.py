import csv
import json
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from sklearn.metrics import roc_auc_score
from toy_runs import FILES, settings, weights

from iagraph.data import JetDataset, read_store
from iagraph.train.config import load_config
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError, build_model, read_history
from iagraph.train.module import Tagger, warmup_cosine
from iagraph.train.run import train


def test_same_seed_gives_same_weights(store, tmp_path):
    runs = [
        train(settings(store, tmp_path, f"seed={seed}", "train.epochs=1", "data.max_jets=128")) for seed in (5, 5, 6)
    ]
    assert [run.name for run in runs] == ["qg-001", "qg-002", "qg-003"]
    one, same, other = (weights(run) for run in runs)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


class Recorder(Tagger):
    """A model with given validation losses, one per epoch, that records its training batches."""

    losses = (0.9, 0.5, 0.7, 0.6, 0.8, 0.1)
    seen: list

    def on_train_epoch_start(self):
        self.seen.append([])

    def training_step(self, jets, batch_index):
        self.seen[-1].append(sorted(jets.momenta.pt.tolist()))
        return super().training_step(jets, batch_index)

    def validation_step(self, jets, batch_index):
        super().validation_step(jets, batch_index)
        self.val_loss.reset()
        self.val_loss.update(torch.tensor(self.losses[self.current_epoch]))


@pytest.fixture(scope="module")
def recorded(store, tmp_path_factory):
    """A run of two batches per epoch whose validation loss is lowest after epoch 2 of at most 6."""
    Recorder.seen = []
    changes = ("train.epochs=6", "train.patience=2", "data.max_jets=128", "train.learning_rate=1e-2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iagraph.train.run.Tagger", Recorder)
        folder = train(settings(store, tmp_path_factory.mktemp("recorded"), *changes))
    return folder, Recorder.seen


class TestTraining:
    def test_stops_after_patience_and_keeps_the_best(self, recorded):
        folder, seen = recorded
        assert len(seen) == 4  # two epochs after the best one
        assert [row["val_loss"] for row in read_history(folder)] == pytest.approx([0.9, 0.5, 0.7, 0.6])
        best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        assert best["epoch"] == 1
        kept = weights(folder)
        assert all(torch.equal(best["state_dict"][f"model.{name}"], kept[name]) for name in kept)

    def test_every_jet_once_per_epoch_in_a_new_order(self, recorded):
        _, seen = recorded
        assert all(len(epoch) == 2 for epoch in seen)
        assert len({str(epoch) for epoch in seen}) == len(seen)
        assert len({str(sorted(pt for batch in epoch for pt in batch)) for epoch in seen}) == 1

    def test_rates_rise_and_fall_as_configured(self, recorded):
        folder, _ = recorded
        rates = column(folder, "lr-AdamW/pg1")
        # Two steps in each of six epochs, of which four were run; every second one is logged.
        expected = [1e-2 * warmup_cosine(step / 12, 0.1, 1e-4) for step in (1, 3, 5, 7)]
        assert rates == pytest.approx(expected, rel=1e-4)

    def test_beta_is_logged_and_trained(self, recorded):
        folder, _ = recorded
        logged = column(folder, "beta/blocks.0.conv")
        assert len(logged) == 4
        assert logged[0] != logged[-1]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["beta"]["blocks.0.conv"] == pytest.approx([logged[1]])  # that of the best epoch

    def test_options_reach_the_trainer(self, store, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr("iagraph.train.trainer.Trainer", lambda **given: made.append(given) or Trainer(**given))
        train(
            settings(
                store,
                tmp_path,
                "train.accumulate=3",
                "train.clip=0.7",
                "train.precision=bf16-mixed",
                "data.max_jets=128",
            )
        )
        fit = made[-1]
        assert (fit["accumulate_grad_batches"], fit["gradient_clip_val"], fit["max_epochs"]) == (3, 0.7, 2)
        assert {given["precision"] for given in made} == {"bf16-mixed"}

    def test_validation_auc_is_that_of_the_signal(self, store, tmp_path):
        folder = train(settings(store, tmp_path, "train.learning_rate=1e-2"))
        model = build_model(load_config(folder / "config.yaml"), ["gluon", "quark"]).eval()
        best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        model.load_state_dict(weights(folder))
        jets = JetDataset(read_store(store, "val"), masses="zero")  # as the recipe has it
        with torch.no_grad():
            logits = model(jets[:])
        expected = roc_auc_score(jets.label, logits[:, 1] - logits[:, 0])
        assert read_history(folder)[best["epoch"]]["val_auc"] == pytest.approx(expected, abs=1e-5)


class Impatient(Recorder):
    stop_in_epoch: int

    def on_train_batch_start(self, batch, batch_index):
        if self.current_epoch == self.stop_in_epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [0, 3])
def test_interrupted_training_keeps_its_best_epoch(store, tmp_path, monkeypatch, epoch):
    monkeypatch.setattr("iagraph.train.run.Tagger", Impatient)
    Recorder.seen, Impatient.stop_in_epoch = [], epoch
    config = settings(store, tmp_path, "train.epochs=6", "data.max_jets=128")
    if epoch == 0:
        with pytest.raises(RunError, match="interrupted in the first epoch"):
            train(config)
        assert list(Path(config.output).iterdir()) == []  # the next run has its number
        return
    folder = train(config)
    assert {path.name for path in folder.iterdir()} >= FILES
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    evaluate(folder)


def test_weight_decay_applies_only_to_matrices(store):
    config = settings(store, "runs")
    tagger = Tagger(build_model(config, ["gluon", "quark"]), config.train, signal=1, jets_per_epoch=10)
    groups = tagger.configure_optimizers()["optimizer"].param_groups
    assert [group["weight_decay"] for group in groups] == [0.01, 0]
    assert sum(len(group["params"]) for group in groups) == len(list(tagger.parameters()))
    spared = {id(parameter) for parameter in groups[1]["params"]}
    names = {name for name, parameter in tagger.named_parameters() if id(parameter) in spared}
    assert "model.blocks.0.conv.theta" in names
    assert all(name.endswith(("bias", "theta", "weight")) for name in names)
    assert not any("lin_" in name for name in names)


def column(folder, name):
    with (folder / "log" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
