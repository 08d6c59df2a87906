import csv
import json
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from lightning import Trainer
from sklearn.metrics import roc_auc_score

from iagraph.data import JetDataset, Jets, StoreError, read_store, write_store
from iagraph.testing import random_jets
from iagraph.train.config import load_config
from iagraph.train.folder import RunError, build_model, new_run_folder, read_history
from iagraph.train.module import Tagger, warmup_cosine
from iagraph.train.run import evaluate, train

RECIPE = Path(__file__).parents[2] / "configs" / "qg.yaml"
FILES = {"config.yaml", "model.pt", "model.json", "trained_on.npy", "metrics.json", "report.md", "predictions.npz"}
FIGURES = {f"{name}.{suffix}" for name in ("loss", "roc", "scores") for suffix in ("png", "pdf")}


def toy_jets(number, seed):
    """Two classes that differ by multiplicity, 9 against 13 on average."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, number)
    counts = random.poisson(np.where(label == 1, 9, 13)) + 1
    jets = random_jets(counts.tolist(), seed)
    columns = {name: component.numpy() for name, component in jets.momenta._asdict().items()}
    columns["pid"] = jets.pid.numpy().astype(np.int32)
    return Jets(columns, jets.ptr.numpy(), label, ("gluon", "quark"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "toy.h5"
    write_store(path, toy_jets(500, 1), splits={"train": 300, "val": 80, "test": 120})
    return path


def settings(store, output, *more):
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    small = ["model.blocks=1", "model.pair_hidden=[7]", "model.particle_hidden=[11]", "train.epochs=2"]
    return load_config(RECIPE, [*files, *small, "train.device=cpu", f"output={output}", *more])


# A machine that has a GPU would find the device.
no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    return train(settings(store, tmp_path_factory.mktemp("runs"), "train.epochs=3", "train.learning_rate=1e-2"))


def test_folder_holds_everything(finished):
    assert finished.name == "qg-001"
    assert {path.name for path in finished.iterdir()} == FILES | {"figures", "log", "checkpoints"}
    assert {path.name for path in (finished / "figures").iterdir()} == FIGURES
    assert {path.name for path in (finished / "checkpoints").iterdir()} == {"best.ckpt"}
    assert (finished / "log" / "metrics.csv").is_file()
    assert list((finished / "log").glob("events.out.tfevents.*"))


def test_metrics_follow_from_the_predictions(finished):
    metrics = json.loads((finished / "metrics.json").read_text())
    predictions = np.load(finished / "predictions.npz", allow_pickle=False)
    assert predictions["logits"].shape == (120, 2)
    assert metrics["jets"] == 120
    right = np.mean(predictions["logits"].argmax(1) == predictions["label"])
    assert metrics["tagger"]["accuracy"]["value"] == pytest.approx(right)
    score = predictions["logits"][:, 1] - predictions["logits"][:, 0]
    difference = score[predictions["label"] == 1][:, None] - score[predictions["label"] == 0]
    auc = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics["tagger"]["auc"]["value"] == pytest.approx(auc)
    difference = -np.subtract.outer(*(predictions["multiplicity"][predictions["label"] == k] for k in (1, 0)))
    alone = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert metrics["multiplicity"]["auc"]["value"] == pytest.approx(alone)
    assert metrics["auc_gain_over_multiplicity"]["value"] == pytest.approx(auc - alone)
    assert auc > 0.75  # it has learned what there is: multiplicity alone reaches 0.8
    cost = metrics["cost"]
    assert cost["parameters"] == sum(t.numel() for n, t in weights(finished).items() if "scale_" not in n)
    assert cost["flops_per_jet"] > 1e4
    assert cost["jets_per_second"] > 1


def test_run_describes_itself(finished, store):
    config = load_config(finished / "config.yaml")
    assert config.train.learning_rate == 1e-2
    description = json.loads((finished / "model.json").read_text())
    assert description["classes"] == ["gluon", "quark"]
    assert [list(description["data"][role]) for role in ("train", "val", "test")] == [[str(store)]] * 3
    assert build_model(config, description["classes"]).load_state_dict(weights(finished))
    assert "AUC above multiplicity" in (finished / "report.md").read_text()


def weights(run):
    return torch.load(run / "model.pt", weights_only=True)


def test_same_seed_same_weights(store, tmp_path):
    runs = [train(settings(store, tmp_path, f"seed={seed}")) for seed in (5, 5, 6)]
    assert [run.name for run in runs] == ["qg-001", "qg-002", "qg-003"]
    one, same, other = (weights(run) for run in runs)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


class TestEvaluate:
    def test_again_gives_the_same(self, finished):
        folder = evaluate(finished)
        assert folder.parent == finished
        assert folder.name.startswith("evaluation-toy-")
        before, after = (json.loads((f / "metrics.json").read_text()) for f in (finished, folder))
        for key in ("tagger", "multiplicity", "auc_gain_over_multiplicity", "jets"):
            assert after[key] == before[key]
        logits = [np.load(f / "predictions.npz")["logits"] for f in (finished, folder)]
        np.testing.assert_allclose(logits[0], logits[1], rtol=0, atol=1e-6)

    def test_on_other_jets(self, finished, tmp_path):
        write_store(tmp_path / "other.h5", toy_jets(70, 2))
        folder = evaluate(finished, str(tmp_path / "other.h5"))
        assert folder.name.startswith("evaluation-other-")
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["jets"] == 70
        assert list(metrics["data"]) == [str(tmp_path / "other.h5")]

    def test_other_classes_are_refused(self, finished, tmp_path):
        jets = toy_jets(20, 2)
        write_store(tmp_path / "top.h5", Jets(jets.particles, jets.offsets, jets.label, ("QCD", "top")))
        with pytest.raises(StoreError, match=r"top\.h5: classes \('QCD', 'top'\) differ"):
            evaluate(finished, str(tmp_path / "top.h5"))

    def test_training_jets_are_refused(self, store, tmp_path):
        for name, seed in (("train", 1), ("val", 2), ("test", 3)):
            write_store(tmp_path / f"{name}.h5", toy_jets(40, seed))
        mixed = Jets.concatenate([toy_jets(40, 4), toy_jets(40, 1).take(range(8))])
        write_store(tmp_path / "mixed.h5", mixed, splits={"train": 0, "val": 0, "test": 48})
        files = [f"data.{role}={tmp_path / role}.h5" for role in ("train", "val", "test")]
        run = train(settings(store, tmp_path, *files, "train.epochs=1"))
        evaluate(run, str(tmp_path / "val.h5"))
        for name, share in (("train", "100"), ("mixed", "17")):
            with pytest.raises(RunError, match=rf"{name}\.h5: the model was trained on {share}% of these jets"):
                evaluate(run, str(tmp_path / f"{name}.h5"))
        # The test file itself may change, too.
        (tmp_path / "test.h5").write_bytes((tmp_path / "mixed.h5").read_bytes())
        with pytest.raises(RunError, match="trained on 17%"):
            evaluate(run)

    def test_damaged_weights(self, finished, tmp_path):
        for name in ("config.yaml", "model.json", "model.pt", "trained_on.npy"):
            (tmp_path / name).write_bytes((finished / name).read_bytes())
        (tmp_path / "model.pt").write_bytes((finished / "model.pt").read_bytes()[:3000])
        with pytest.raises(RunError, match=r"model\.pt or model\.json is damaged or does not fit"):
            evaluate(tmp_path)

    def test_damaged_digests(self, finished, tmp_path):
        for name in ("config.yaml", "model.json", "model.pt"):
            (tmp_path / name).write_bytes((finished / name).read_bytes())
        (tmp_path / "trained_on.npy").write_bytes(b"")
        with pytest.raises(RunError, match=r"trained_on\.npy: damaged"):
            evaluate(tmp_path)

    @no_cuda
    def test_device_that_is_not_there(self, finished):
        with pytest.raises(RunError, match=r"device 'cuda'.*use another one"):
            evaluate(finished, device="cuda")

    def test_unfinished_run(self, tmp_path):
        with pytest.raises(RunError, match=r"holds no config\.yaml, .*, trained_on\.npy; give the folder of a run"):
            evaluate(tmp_path)


class TestBadInput:
    def test_output_that_cannot_be_made(self, store, tmp_path):
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(RunError, match=r"file: cannot make this folder \(File exists\)"):
            train(settings(store, tmp_path / "file"))

    @no_cuda
    def test_device_that_is_not_there_leaves_no_folder(self, store, tmp_path):
        with pytest.raises(RunError, match="device 'cuda'"):
            train(settings(store, tmp_path / "runs", "train.device=cuda"))
        assert not (tmp_path / "runs").exists()

    def test_output_that_leads_nowhere(self, store, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "unmounted")
        with pytest.raises(RunError, match="link: cannot make this folder"):
            train(settings(store, tmp_path / "link"))

    def test_missing_store_leaves_no_folder(self, tmp_path):
        with pytest.raises(StoreError, match=r"nowhere\.h5: no such file"):
            train(settings(tmp_path / "nowhere.h5", tmp_path / "runs"))
        assert not (tmp_path / "runs").exists()

    def test_truncated_store(self, store, tmp_path):
        (tmp_path / "cut.h5").write_bytes(store.read_bytes()[:-1000])
        with pytest.raises(StoreError, match=r"cut\.h5: not HDF5, incomplete or damaged"):
            train(settings(tmp_path / "cut.h5", tmp_path / "runs"))

    def test_nan_in_a_store_names_the_jet(self, store, tmp_path):
        path = tmp_path / "nan.h5"
        path.write_bytes(store.read_bytes())
        with h5py.File(path, "r+") as file:
            particle = int(file["jets/offsets"][7]) + 2
            file["particles/phi"][particle] = np.nan
        with pytest.raises(StoreError, match=r"nan\.h5: jet 7, particle 2: phi = nan, expected finite"):
            train(settings(path, tmp_path / "runs"))

    def test_store_that_lacks_a_key(self, store, tmp_path):
        path = tmp_path / "lacks.h5"
        path.write_bytes(store.read_bytes())
        with h5py.File(path, "r+") as file:
            del file["particles/mass"]
        with pytest.raises(StoreError, match=r"lacks\.h5: lacks mass"):
            train(settings(path, tmp_path / "runs"))

    def test_loss_that_is_not_finite(self, store, tmp_path):
        with pytest.raises(FloatingPointError, match=r"the loss is \S+ in batch \d+ of epoch \d+: lower train"):
            train(settings(store, tmp_path, "train.learning_rate=1e30", "train.clip=null", "train.warmup=0"))


def test_empty_and_single_particle_jets_are_trained_on(tmp_path):
    jets = toy_jets(60, 3)
    counts = np.where(np.arange(60) % 5 == 0, np.arange(60) % 2, jets.counts)  # every fifth has none or one
    kept = np.concatenate([np.arange(n) + begin for n, begin in zip(counts, jets.offsets[:-1], strict=True)])
    offsets = np.concatenate([[0], counts.cumsum()])
    path = tmp_path / "sparse.h5"
    columns = {name: column[kept] for name, column in jets.particles.items()}
    write_store(path, Jets(columns, offsets, jets.label, jets.classes), splits={"train": 30, "val": 15, "test": 15})
    run = train(settings(path, tmp_path, "train.epochs=1"))
    assert np.isfinite(np.load(run / "predictions.npz")["logits"]).all()


class Recorder(Tagger):
    """Predicts the validation losses of a list, one per epoch, and keeps what it trained with."""

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
        self.val_loss.update(self.losses[self.current_epoch])


@pytest.fixture
def recorded(store, tmp_path, monkeypatch):
    """A run of two batches per epoch whose validation loss is lowest after epoch 2 of at most 6."""
    monkeypatch.setattr("iagraph.train.run.Tagger", Recorder)
    Recorder.seen = []
    changes = ("train.epochs=6", "train.patience=2", "data.max_jets=128", "train.learning_rate=1e-2")
    folder = train(settings(store, tmp_path, *changes))
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

    def test_beta_is_logged_and_moves(self, recorded):
        folder, _ = recorded
        logged = column(folder, "beta/blocks.0.conv")
        assert len(logged) == 4
        assert logged[0] != logged[-1]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["beta"]["blocks.0.conv"] == pytest.approx([logged[1]])  # that of the best epoch

    def test_options_reach_the_trainer(self, store, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr("iagraph.train.run.Trainer", lambda **given: made.append(given) or Trainer(**given))
        train(settings(store, tmp_path, "train.accumulate=3", "train.clip=0.7", "train.precision=bf16-mixed"))
        fit = made[-1]
        assert (fit["accumulate_grad_batches"], fit["gradient_clip_val"], fit["max_epochs"]) == (3, 0.7, 2)
        assert {given["precision"] for given in made} == {"bf16-mixed"}

    def test_validation_auc_is_that_of_the_signal(self, store, tmp_path):
        folder = train(settings(store, tmp_path, "train.learning_rate=1e-2"))
        model = build_model(load_config(folder / "config.yaml"), ["gluon", "quark"]).eval()
        best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        model.load_state_dict(weights(folder))
        jets = JetDataset(read_store(store, "val"))
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
        with pytest.raises(RunError, match="interrupted before the first epoch was over"):
            train(config)
        return
    folder = train(config)
    assert {path.name for path in folder.iterdir()} >= FILES
    assert torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] == 1
    evaluate(folder)


def test_decay_spares_everything_but_matrices(store):
    config = settings(store, "runs")
    tagger = Tagger(build_model(config, ["gluon", "quark"]), config.train, 1)
    tagger.trainer = SimpleNamespace(estimated_stepping_batches=10)
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


def test_runs_are_numbered(tmp_path):
    assert [new_run_folder(tmp_path, "a").name for _ in range(3)] == ["a-001", "a-002", "a-003"]
