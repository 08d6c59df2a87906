"""Finished runs can be extended, exactly and reproducibly."""

import json
import re
import shutil

import pytest
import torch
from interrupted_runs import BATCH, STEPS, StopError, assert_same, stopped_at, toy
from toy_runs import settings, toy_jets, weights

from iagraph.data import write_store
from iagraph.train.checkpoints import BEST, END, KEY, LAST
from iagraph.train.config import load_config
from iagraph.train.folder import RunError, read_history
from iagraph.train.module import Tagger
from iagraph.train.run import resume, train, train_into
from iagraph.train.schedules import warmup_cosine

SHORT = ["train.epochs=2", "train.patience=2"]
# No epoch beats the first.
STILL = ["train.learning_rate=1e-30", "train.min_learning_rate=1e-30", "train.epochs=5", "data.max_jets=64"]


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    train_into(folder, toy(store, folder.parent, *SHORT))
    return folder


@pytest.fixture(scope="module")
def extended(finished, tmp_path_factory):
    """The run extended from two to four epochs."""
    return resume(shutil.copytree(finished, tmp_path_factory.mktemp("extended") / "run"), ["train.epochs=4"])


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def record(run):
    return json.loads((run / "metrics.json").read_text())


def test_extension_appends_history_and_is_recorded(finished, extended, tmp_path, capsys):
    assert [row["epoch"] for row in read_history(extended)] == [1, 2, 3, 4]
    log = (finished / "log" / "metrics.csv").read_bytes()
    assert (extended / "log" / "metrics.csv").read_bytes().startswith(log)
    assert load_config(extended / "config.yaml").train.epochs == 4
    assert record(extended)["training"].items() >= {"epochs": 4, "extended_after": [2]}.items()
    first, both = record(finished)["training"], record(extended)["training"]
    assert "extended_after" not in first
    assert both["jets"] == 2 * first["jets"]
    assert both["seconds"] > first["seconds"] > 0
    assert both["jets_per_second"] == pytest.approx(both["jets"] / both["seconds"])
    assert first["peak_memory_mb"] > 100
    assert {path.name for path in (extended / "checkpoints").iterdir()} == {"best.ckpt", END, ".lock"}
    with pytest.raises(RunError, match=r"has finished, .* --resume \S+ train\.epochs=8"):
        resume(extended)
    again = resume(shutil.copytree(extended, tmp_path / "again"), ["train.epochs=5"])
    assert record(again)["training"].items() >= {"epochs": 5, "extended_after": [2, 4]}.items()
    line = capsys.readouterr().out.splitlines()[0]
    assert re.match(r"extended: .*\b5 instead of 4 epochs", line)


@pytest.mark.parametrize("step", [1, STEPS + 3])
def test_interrupted_extension_ends_like_an_uninterrupted_one(run, monkeypatch, extended, step):
    with stopped_at(monkeypatch, (Tagger, "training_step"), step), pytest.raises(StopError):
        resume(run, ["train.epochs=4"])
    resume(run)  # its length is recorded
    assert_same(run, extended)


def test_learning_rate_follows_the_longer_schedule(run, monkeypatch):
    def note(self, *_):
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    rates, config = [], load_config(run / "config.yaml").train
    monkeypatch.setattr(Tagger, "on_train_batch_start", note)
    resume(run, ["train.epochs=4"])
    done = [(epoch + BATCH * step / 300) / 4 for epoch in (2, 3) for step in range(STEPS)]
    lowest = config.min_learning_rate / config.learning_rate
    expected = [config.learning_rate * warmup_cosine(each, config.warmup, lowest) for each in done]
    assert rates == pytest.approx(expected)


def test_more_patience_acts_as_if_set_from_the_start(store, tmp_path):
    train_into(tmp_path / "run", settings(store, tmp_path, *STILL, "train.patience=1"))
    assert len(read_history(tmp_path / "run")) == 2
    resume(tmp_path / "run", ["train.patience=3"])
    train_into(tmp_path / "whole", settings(store, tmp_path, *STILL, "train.patience=3"))
    assert len(read_history(tmp_path / "whole")) == 4
    assert_same(tmp_path / "run", tmp_path / "whole")
    resume(tmp_path / "run", ["train.epochs=9"])
    assert len(read_history(tmp_path / "run")) == 4 + 3  # with more epochs, patience restarts


def test_interrupted_runs_may_change_their_length(store, tmp_path, monkeypatch):
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path))
    resume(tmp_path / "run", ["train.epochs=2"])
    assert len(read_history(tmp_path / "run")) == 2
    assert record(tmp_path / "run")["training"]["extended_after"] == [1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                ["train.epochs=4", "train.clip=7"],
                r"only train\.epochs and train\.patience may change in a resumed run, f",
            ),
            (["train.epochs=1"], r"2 epochs are done; set train\.epochs above 2"),
            (["train.patience=9"], r"2 epochs are done; set train\.epochs above 2"),
        ],
    )
    def test_of_changes(self, run, changes, message):
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match=message):
            resume(run, changes)
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def test_run_of_an_earlier_version(self, run):
        (run / "checkpoints" / END).unlink()
        with pytest.raises(
            RunError, match=r"has no extendable training state .* its weights: fine_tune\.weights=.*run"
        ):
            resume(run, ["train.epochs=4"])

    @pytest.mark.parametrize("name", [END, BEST])
    def test_of_damaged_files(self, run, name):
        (run / "checkpoints" / name).write_bytes((run / "checkpoints" / name).read_bytes()[:1000])
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match=rf"checkpoints/{name}: missing or damaged \(.*\); start a new run"):
            resume(run, ["train.epochs=4"])
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def test_of_other_jets(self, run, tmp_path):
        write_store(tmp_path / "other.h5", toy_jets(300, seed=9))
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        with pytest.raises(
            RunError, match=r"the jets of data\.train \(.*other\.h5\) differ from those that the run beg"
        ):
            resume(run, [f"data.train={tmp_path / 'other.h5'}", "train.epochs=4"])
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def test_changed_plan_for_a_folder(self, run):
        message = r"differs in train\.epochs; give another folder, or resume it: iagraph train .* train\.epochs=\.\.\."
        with pytest.raises(RunError, match=message):
            train(load_config(run / "config.yaml", ["train.epochs=4"]), into=run)


def test_jets_of_an_interrupted_run_may_be_moved(store, tmp_path, monkeypatch, finished):
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path, *SHORT))
    moved = shutil.copy(store, tmp_path / "moved.h5")
    resume(tmp_path / "run", [f"data.{role}={moved}" for role in ("train", "val", "test")])
    assert weights(tmp_path / "run").keys() == weights(finished).keys()
    assert all(value.equal(weights(finished)[name]) for name, value in weights(tmp_path / "run").items())


def test_state_of_an_earlier_version_can_be_resumed(store, tmp_path, monkeypatch, finished):
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path, *SHORT))
    last = tmp_path / "run" / "checkpoints" / LAST
    state = torch.load(last, weights_only=True)
    for key in ("epochs", "patience", "extended_after"):
        del state[KEY][key]
    del state["jets_in_all"]
    torch.save(state, last)
    with pytest.raises(RunError, match="has no extendable training state"):
        resume(tmp_path / "run", ["train.epochs=4"])
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", finished)
