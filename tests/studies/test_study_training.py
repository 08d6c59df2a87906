"""A restarted study resumes the training of an unfinished run, unless it is another one."""

import shutil
from multiprocessing import Pipe

import numpy as np
import pytest
from interrupted_runs import STEPS, StopError, assert_same, stopped_at
from interrupted_runs import toy as dropping_out

from iagraph.studies.compare.config import PlannedRun
from iagraph.studies.training import _train
from iagraph.train.folder import RunError
from iagraph.train.module import Tagger
from iagraph.train.run import train_into


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train_into(folder, dropping_out(store, folder.parent))
    return folder


def planned(store, folder, *more):
    return PlannedRun("toy", dropping_out(store, folder, *more), folder / "seed-1")


def begun(run, monkeypatch, steps):
    """Steps until the training stops."""
    with stopped_at(monkeypatch, (Tagger, "training_step"), steps), pytest.raises(StopError):
        train_into(run.folder.with_name("seed-1.unfinished"), run.config)


def finished(run, monkeypatch):
    """The number of steps that finish it."""
    made = []
    step = Tagger.training_step
    with monkeypatch.context() as patch:
        patch.setattr(Tagger, "training_step", lambda *arguments: made.append(1) or step(*arguments))
        _train(run, 1, Pipe()[1])
    assert not run.folder.with_name("seed-1.unfinished").exists()
    return len(made)


def test_after_an_epoch_it_is_resumed(store, tmp_path, undisturbed, monkeypatch):
    run = planned(store, tmp_path)
    begun(run, monkeypatch, STEPS + 3)
    assert finished(run, monkeypatch) == 2 * STEPS
    assert_same(run.folder, undisturbed)


def test_without_a_finished_epoch_it_begins_again(store, tmp_path, undisturbed, monkeypatch):
    run = planned(store, tmp_path)
    begun(run, monkeypatch, 3)
    assert finished(run, monkeypatch) == 3 * STEPS
    assert_same(run.folder, undisturbed)


def test_moved_jets_are_recognised(store, tmp_path, undisturbed, monkeypatch):
    run = planned(store, tmp_path)
    begun(run, monkeypatch, STEPS + 3)
    moved = shutil.copy(store, tmp_path / "moved.h5")
    paths = [f"data.{role}={moved}" for role in ("train", "val", "test")]
    assert finished(planned(store, tmp_path, *paths), monkeypatch) == 2 * STEPS
    found = np.load(run.folder / "predictions.npz")["logits"]
    assert found.tolist() == np.load(undisturbed / "predictions.npz")["logits"].tolist()


@pytest.mark.parametrize("reason", ["configuration", "damaged"])
def test_otherwise_its_epochs_are_kept(store, tmp_path, monkeypatch, reason):
    run, unfinished = planned(store, tmp_path), tmp_path / "seed-1.unfinished"
    begun(planned(store, tmp_path, *["train.clip=0.5"] * (reason == "configuration")), monkeypatch, STEPS + 3)
    if reason == "damaged":
        (unfinished / "checkpoints" / "last.ckpt").write_bytes(b"nothing")
    before = (unfinished / "checkpoints" / "last.ckpt").read_bytes()
    receiver, sender = Pipe()
    _train(run, 1, sender)
    answer = receiver.recv()
    assert answer.endswith(f"; if this remains, delete {unfinished} to begin this run again")
    assert ("unfinished run that differs from the requested one: train.clip was 0.5" in answer) != (reason == "damaged")
    assert (unfinished / "checkpoints" / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("error", [OSError("no space"), RunError("interrupted")])
def test_after_other_errors_the_epochs_are_kept(store, tmp_path, undisturbed, monkeypatch, error):
    run = planned(store, tmp_path)
    begun(run, monkeypatch, STEPS + 3)
    receiver, sender = Pipe()
    with stopped_at(monkeypatch, (Tagger, "training_step"), 2, error):
        _train(run, 1, sender)
    assert (
        receiver.recv() == f"{error}; if this remains, delete {tmp_path / 'seed-1.unfinished'} to begin this run again"
    )
    assert finished(run, monkeypatch) == 2 * STEPS
    assert_same(run.folder, undisturbed)
