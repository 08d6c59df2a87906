"""An interrupted run can be resumed, and ends like an uninterrupted one."""

import json
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from interrupted_runs import (
    EPOCHS,
    STEPS,
    Killed,
    StopError,
    assert_same,
    stopped_at,
    toy,
    train_and_hang,
    train_with_little_room,
)
from lightning import Callback
from toy_runs import settings, toy_jets, weights

from iagraph.data import read_store, write_store
from iagraph.models import CheckpointError
from iagraph.train.checkpoints import LAST, read_state
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import RunError, kept_epochs, read_history, weights_of_epoch
from iagraph.train.module import Tagger
from iagraph.train.run import resume, train, train_into


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_into(folder, toy(store, folder.parent))
    return folder


def moments():
    """Where to stop: in a training step, in validation, while saving a state or the best weights, or afterwards."""
    import iagraph.train.checkpoints as checkpoints
    import iagraph.train.run as run

    return {
        "first step": ((Tagger, "training_step"), 1),
        "second epoch": ((Tagger, "training_step"), STEPS + 3),
        "validation": ((Tagger, "validation_step"), 4),
        "keeping best or last, first": ((checkpoints.torch, "save"), 1),
        "keeping best or last, fourth": ((checkpoints.torch, "save"), 4),
        "last epoch": ((Tagger, "training_step"), EPOCHS * STEPS),
        "model": ((run, "save_model"), 1),
        "judgement": ((run, "evaluate_tagger"), 1),
    }


@pytest.mark.parametrize("moment", list(moments()))
def test_interrupted_run_ends_like_an_uninterrupted_one(store, tmp_path, monkeypatch, undisturbed, moment):
    folder = tmp_path / "run"
    with stopped_at(monkeypatch, *moments()[moment]), pytest.raises(StopError):
        train_into(folder, toy(store, tmp_path))
    random.random(), np.random.rand(), torch.rand(3)  # noqa: NPY002, as anything else would that is done meanwhile
    resume(folder)
    assert_same(folder, undisturbed)


def test_run_can_be_moved_and_interrupted_again(store, tmp_path, monkeypatch, undisturbed):
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "here", toy(store, tmp_path))
    shutil.move(tmp_path / "here", tmp_path / "there")
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 2), pytest.raises(StopError):
        resume(tmp_path / "there")
    assert read_state(tmp_path / "there" / "checkpoints", {}, toy(store, tmp_path).train).steps == 2 * STEPS
    resume(tmp_path / "there")
    assert_same(tmp_path / "there", undisturbed)


class Steps(Callback):
    """The weights after each step, with the loss of each validation."""

    def __init__(self):
        self.weights, self.losses = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.weights.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.losses.append(float(trainer.callback_metrics["val_loss"]))


def test_moving_averages_are_validated_and_saved(store, tmp_path):
    decay, steps = 0.5, Steps()
    train(toy(store, tmp_path, f"train.ema={decay}", "train.epochs=1"), [steps], tmp_path / "run")
    average = steps.weights[0]
    for number, current in enumerate(steps.weights[1:], start=1):
        share = min(decay, (1 + number) / (10 + number))  # 2/11, 3/12, ...: what is left of the average so far
        average = {
            name: share * average[name] + (1 - share) * value if value.is_floating_point() else value
            for name, value in current.items()
        }
    kept = weights(tmp_path / "run")
    assert len(steps.weights) == STEPS
    for name, value in average.items():
        torch.testing.assert_close(kept[name], value)
    assert any(not kept[name].allclose(value) for name, value in steps.weights[-1].items())
    predicted = np.load(evaluate(tmp_path / "run", str(_validation_jets(store, tmp_path))) / "predictions.npz")
    loss = torch.nn.functional.cross_entropy(*(torch.from_numpy(predicted[name]) for name in ("logits", "label")))
    assert float(loss) == pytest.approx(steps.losses[0], rel=1e-5)


def _validation_jets(store, folder):
    path = folder / "validation.h5"
    write_store(path, read_store(store, "val"))
    return path


def test_moving_averages_continue_after_an_interruption(store, tmp_path, monkeypatch):
    config = toy(store, tmp_path, "train.ema=0.9", "train.epochs=2")
    train_into(tmp_path / "undisturbed", config)
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "run", config)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "undisturbed")


def test_early_stopping_is_remembered(store, tmp_path, monkeypatch):
    import iagraph.train.run as run

    # The rate is zero but for rounding: no epoch is better than the first, and the third is the last.
    still = ["train.learning_rate=1e-30", "train.min_learning_rate=1e-30", "train.patience=2", "train.epochs=7"]
    with stopped_at(monkeypatch, (run, "save_model"), 1), pytest.raises(StopError):
        train_into(tmp_path / "run", settings(store, tmp_path, *still))
    log = (tmp_path / "run" / "log" / "metrics.csv").read_text()
    assert [row["epoch"] for row in read_history(tmp_path / "run")] == [1, 2, 3]
    resume(tmp_path / "run")
    assert (tmp_path / "run" / "log" / "metrics.csv").read_text() == log


def killed_until_it_ends(store, tmp_path, seed, kills):
    """A run killed at random times and resumed, a given number of times, and then finished."""
    chance, killed, config = random.Random(seed), Killed(), toy(store, tmp_path)
    folder = tmp_path / f"run-{seed}"
    start = time.monotonic()
    assert killed.run(train_into, tmp_path / f"whole-{seed}", config) == 0
    whole = time.monotonic() - start
    survived = 0
    while survived < kills:
        begun = (folder / "config.yaml").exists()
        shutil.rmtree(folder, ignore_errors=True) if folder.exists() and not begun else None
        job = (resume, folder) if begun else (train_into, folder, config)
        if killed.run(*job, seconds=chance.uniform(0, whole)) == 0:
            assert_same(folder, tmp_path / f"whole-{seed}")
            shutil.rmtree(folder)
        else:
            survived += 1
    if (folder / "config.yaml").exists():
        assert killed.run(resume, folder) == 0
        assert_same(folder, tmp_path / f"whole-{seed}")


def test_run_survives_being_killed(store, tmp_path, undisturbed):
    folder, killed = tmp_path / "run", Killed()
    assert killed.run(train_and_hang, folder, toy(store, tmp_path), until=(folder / "here").exists) == -signal.SIGKILL
    (folder / "here").unlink()
    resume(folder)
    assert_same(folder, undisturbed)


@pytest.mark.slow
def test_run_survives_being_killed_often(store, tmp_path):
    for seed in range(10, 15):
        killed_until_it_ends(store, tmp_path, seed, kills=8)


def test_a_full_disk_loses_nothing(store, tmp_path, undisturbed):
    assert Killed().run(train_with_little_room, tmp_path / "run", toy(store, tmp_path)) == 7
    message = tmp_path / "run" / "message"
    assert f"free some space, then resume: iagraph train --resume {tmp_path}/run" in message.read_text()
    message.unlink()
    assert not list((tmp_path / "run").rglob("*.tmp"))
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", undisturbed)


class TestRefusals:
    def test_a_finished_run(self, undisturbed):
        with pytest.raises(RunError, match="has finished"):
            resume(undisturbed)

    def test_no_run(self, tmp_path):
        with pytest.raises(RunError, match=r"holds no config\.yaml"):
            resume(tmp_path)

    def test_other_jets(self, store, tmp_path, monkeypatch):
        jets = tmp_path / "jets.h5"
        shutil.copy(store, jets)
        with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
            train_into(tmp_path / "run", toy(jets, tmp_path))
        before = (tmp_path / "run" / "checkpoints" / LAST).read_bytes()
        jets.unlink()
        write_store(jets, toy_jets(500, 7), splits={"train": 300, "val": 80, "test": 120})
        with pytest.raises(RunError, match=r"jets of data\.train .* differ from those that the run began with"):
            resume(tmp_path / "run")
        assert (tmp_path / "run" / "checkpoints" / LAST).read_bytes() == before
        shutil.copy(store, jets)
        resume(tmp_path / "run")

    def test_a_damaged_state(self, store, tmp_path, monkeypatch):
        with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
            train_into(tmp_path / "run", toy(store, tmp_path))
        last = tmp_path / "run" / "checkpoints" / LAST
        last.write_bytes(last.read_bytes()[:-100])
        with pytest.raises(CheckpointError, match=r"last\.ckpt: damaged .* delete it to restart the run"):
            resume(tmp_path / "run")


def test_ctrl_c_evaluates_and_can_be_resumed(store, tmp_path, monkeypatch, capsys, undisturbed):
    original = Tagger.training_step

    def impatient(self, jets, batch_index):
        if self.current_epoch == 2:
            raise KeyboardInterrupt
        return original(self, jets, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "training_step", impatient)
        folder = train(toy(store, tmp_path))
    assert f"resume the training with: iagraph train --resume {folder}" in capsys.readouterr().out
    assert json.loads((folder / "metrics.json").read_text())["jets"] == 120
    resume(folder)
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("more", [(), ("train.ema=0.9",)], ids=["weights", "averages"])
def test_kept_weights_are_the_validated_ones(store, tmp_path, more):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    stale = tmp_path / "run" / "checkpoints" / "epoch-7.pt"
    stale.write_bytes(b"of a training that was begun again")
    (tmp_path / "run" / "checkpoints" / "epoch-3 (copy).pt").write_bytes(b"the user's")
    run = train(toy(store, tmp_path, "train.keep_every=1", *more), into=tmp_path / "run")
    assert kept_epochs(run) == [1, 2, 3]
    best = min(read_history(run), key=lambda epoch: epoch["val_loss"])["epoch"]
    for epoch in (1, 2, 3):
        kept = torch.load(weights_of_epoch(run, epoch), weights_only=True)
        same = all(kept[name].equal(tensor) for name, tensor in weights(run).items())
        assert same == (epoch == best)
