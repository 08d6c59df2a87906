"""A run that has finished is trained further, exactly and reproducibly."""

import json

import numpy as np
import pytest
import torch
from lightning import Callback
from test_keeping import StopError, assert_same, stopped_at, toy
from toy_runs import settings, weights

from iagraph.train.config import load_config
from iagraph.train.extending import EXTENDING
from iagraph.train.folder import RunError, read_history
from iagraph.train.keeping import END, KEY, LAST
from iagraph.train.module import Tagger, warmup_cosine
from iagraph.train.run import evaluate, resume, train, train_into

SHORT = ["train.epochs=2", "train.patience=2"]


@pytest.fixture
def extended(store, tmp_path, capsys):
    train_into(tmp_path / "extended", toy(store, tmp_path, *SHORT))
    capsys.readouterr()
    return resume(tmp_path / "extended", ["train.epochs=4"])


def test_history_is_appended_and_the_record_says_so(extended, capsys):
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(
        "extended: from epoch 3 on, the schedule is that of 4 epochs, in place of 2; the learning rate"
    )
    assert [row["epoch"] for row in read_history(extended)] == [1, 2, 3, 4]
    assert load_config(extended / "config.yaml").train.epochs == 4
    metrics = json.loads((extended / "metrics.json").read_text())
    assert metrics["training"] == {"epochs": 4, "extended_after": [2]}
    names = {path.name for path in (extended / "checkpoints").iterdir()}
    assert names == {"best.ckpt", END, ".lock"}
    evaluate(extended)
    with pytest.raises(RunError, match=r"has finished, .* --resume \S+/extended train.epochs=8"):
        resume(extended)
    resume(extended, ["train.epochs=5"])
    metrics = json.loads((extended / "metrics.json").read_text())
    assert metrics["training"] == {"epochs": 5, "extended_after": [2, 4]}


@pytest.mark.parametrize("step", [1, 9 + 4])
def test_an_interrupted_extension_ends_as_one_that_never_was(store, tmp_path, monkeypatch, extended, step):
    run = tmp_path / "run"
    train_into(run, toy(store, tmp_path, *SHORT))
    with stopped_at(monkeypatch, (Tagger, "training_step"), step), pytest.raises(StopError):
        resume(run, ["train.epochs=4"])
    resume(run)  # it knows how far it was to go
    assert_same(run, extended)


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_the_rate_is_that_of_the_longer_schedule_from_the_first_step_on(store, tmp_path, monkeypatch):
    run, seen = tmp_path / "run", Rates()
    config = toy(store, tmp_path, *SHORT)
    train_into(run, config)
    monkeypatch.setattr(Tagger, "on_train_batch_start", lambda self, *_: seen.on_train_batch_start(self.trainer, self))
    resume(run, ["train.epochs=4"])
    highest, lowest = config.train.learning_rate, config.train.min_learning_rate
    done = [2 / 4 + min(37 * step, 300) / 300 / 4 + epoch / 4 for epoch in (0, 1) for step in range(9)]
    expected = [highest * warmup_cosine(each, config.train.warmup, lowest / highest) for each in done]
    assert seen.rates == pytest.approx(expected)


def test_more_patience_is_as_if_it_had_been_so_from_the_beginning(store, tmp_path):
    still = ["train.learning_rate=1e-30", "train.min_learning_rate=1e-30", "train.epochs=5"]
    train_into(tmp_path / "run", settings(store, tmp_path, *still, "train.patience=1"))
    assert len(read_history(tmp_path / "run")) == 2
    resume(tmp_path / "run", ["train.patience=3"])
    train_into(tmp_path / "whole", settings(store, tmp_path, *still, "train.patience=3"))
    assert len(read_history(tmp_path / "whole")) == 4
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_patience_begins_anew_with_more_epochs(store, tmp_path):
    still = ["train.learning_rate=1e-30", "train.min_learning_rate=1e-30", "train.epochs=5", "train.patience=2"]
    train_into(tmp_path / "run", settings(store, tmp_path, *still))
    resume(tmp_path / "run", ["train.epochs=9"])
    assert len(read_history(tmp_path / "run")) == 3 + 2


def test_an_interrupted_run_may_become_longer(store, tmp_path, monkeypatch):
    with stopped_at(monkeypatch, (Tagger, "training_step"), 9 + 4), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path))
    resume(tmp_path / "run", ["train.epochs=2"])  # or shorter
    assert len(read_history(tmp_path / "run")) == 2
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]["extended_after"] == [1]


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                ["train.epochs=4", "train.clip=7"],
                r"goes on as it began, but for train\.epochs and train\.patience, found ",
            ),
            (["train.epochs=1"], r"2 epochs are over; give train\.epochs more than 2"),
            (["train.patience=9"], r"2 epochs are over; give train\.epochs more than 2"),
        ],
    )
    def test_of_changes(self, store, tmp_path_factory, changes, message):
        folder = tmp_path_factory.mktemp("refused")
        train_into(folder / "run", settings(store, folder, "train.epochs=2"))
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(RunError, match=message):
            resume(folder / "run", changes)
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_a_run_of_an_earlier_version(self, store, tmp_path):
        train_into(tmp_path / "run", settings(store, tmp_path, "train.epochs=1"))
        (tmp_path / "run" / "checkpoints" / END).unlink()
        with pytest.raises(RunError, match=r"keeps no state .* from its weights: fine_tune\.weights=.*run"):
            resume(tmp_path / "run", ["train.epochs=2"])
        with pytest.raises(
            RunError, match=r"differs in train\.epochs; give another folder, or extend it: python .*epochs="
        ):
            train(settings(store, tmp_path, "train.epochs=2"), into=tmp_path / "run")


def test_a_state_of_an_earlier_version_goes_on(store, tmp_path, monkeypatch):
    with stopped_at(monkeypatch, (Tagger, "training_step"), 9 + 4), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path, *SHORT))
    last = tmp_path / "run" / "checkpoints" / LAST
    state = torch.load(last, weights_only=True)
    for key in ("epochs", "patience", "extended_after"):
        del state[KEY][key]
    del state["jets_in_all"]
    torch.save(state, last)
    with pytest.raises(RunError, match="keeps no state"):
        resume(tmp_path / "run", ["train.epochs=4"])
    resume(tmp_path / "run")
    train_into(tmp_path / "whole", toy(store, tmp_path, *SHORT))
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert all(np.isfinite(tensor).all() for tensor in weights(tmp_path / "run").values())
    assert EXTENDING == ("train.epochs", "train.patience")
