import re

import pytest
import torch
from toy_runs import settings, toy_jets

from benchmark import epoch
from iagraph.data import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "toy.h5"
    write_store(path, toy_jets(211, 1), splits={"train": 127, "val": 43, "test": 41})
    return path


class Clock:
    """A manual clock."""

    now = 0.0

    def perf_counter(self):
        return self.now


class FakeTrainer:
    validating = False

    class strategy:  # noqa: N801
        root_device = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(epoch, "time", clock)
    return clock


def play(clock, trainer, script):
    """Seconds of the parts if actions start (+) and stop (-) at these times."""
    seconds = dict.fromkeys(epoch.PARTS, 0.0)
    profiler = epoch._PartTimes(trainer, seconds)
    for now, event in script:
        clock.now = now
        if event in ("validate", "train"):
            trainer.validating = event == "validate"
        elif event.startswith("+"):
            profiler.start(event[1:])
        else:
            profiler.stop(event[1:])
    return {part: value for part, value in seconds.items() if value}


def test_time_is_assigned_once_to_the_innermost_action(clock):
    parts = play(
        clock,
        FakeTrainer(),
        [
            (0, "+[Strategy]S.setup"),
            (1, "-[Strategy]S.setup"),
            (2, "+[Callback]A{'monitor': 'x.y'}.on_train_epoch_start"),
            (3, "-[Callback]A{'monitor': 'x.y'}.on_train_epoch_start"),  # metrics: 1
            (5, "+run_training_epoch"),  # rest: 2
            (8, "+[_TrainingEpochLoop].train_dataloader_next"),  # rest: 3
            (13, "-[_TrainingEpochLoop].train_dataloader_next"),  # loader: 5
            (13, "+[Strategy]S.batch_to_device"),
            (20, "-[Strategy]S.batch_to_device"),  # transfer: 7
            (20, "+run_training_batch"),
            (20, "+[LightningModule]T.optimizer_step"),
            (31, "+[Strategy]S.training_step"),  # optimiser: 11
            (44, "+forward"),  # metrics: 13
            (61, "-forward"),  # forward: 17
            (61, "-[Strategy]S.training_step"),
            (61, "+[Strategy]S.backward"),
            (80, "-[Strategy]S.backward"),  # backward: 19
            (103, "-[LightningModule]T.optimizer_step"),  # optimiser: 23
            (103, "-run_training_batch"),
            (103, "-run_training_epoch"),
            (132, "+[Callback]A.on_train_end"),  # rest: 29
            (163, "-[Callback]A.on_train_end"),
        ],
    )
    assert parts == {
        epoch.LOADER: 5,
        epoch.TRANSFER: 7,
        epoch.FORWARD: 17,
        epoch.BACKWARD: 19,
        epoch.OPTIMISER: 34,
        epoch.METRICS: 14,
        epoch.REST: 34,
    }
    assert sum(parts.values()) == 132 - 2


def test_validation_counts_only_the_network(clock):
    parts = play(
        clock,
        FakeTrainer(),
        [
            (0, "+[Callback]A.on_train_epoch_start"),
            (0, "-[Callback]A.on_train_epoch_start"),
            (0, "+run_training_epoch"),
            (0, "validate"),
            (2, "+[_EvaluationLoop].val_next"),  # metrics: 2
            (5, "-[_EvaluationLoop].val_next"),  # loader: 3
            (5, "+[Strategy]S.validation_step"),
            (10, "+forward"),  # metrics: 5
            (17, "-forward"),  # validation: 7
            (17, "-[Strategy]S.validation_step"),
            (28, "+[Callback]A.on_validation_end"),  # metrics: 11
            (41, "-[Callback]A.on_validation_end"),  # metrics: 13
            (41, "train"),
            (58, "-run_training_epoch"),  # rest: 17
        ],
    )
    assert parts == {epoch.METRICS: 31, epoch.LOADER: 3, epoch.VALIDATION: 7, epoch.REST: 17}


def test_parts_add_up_to_the_epoch(store, tmp_path, monkeypatch):
    calls = []
    train = epoch.train

    def recorded(config, callbacks):
        folder = train(config, callbacks)
        calls.append((config, callbacks[0], (folder / "metrics.json").is_file()))
        return folder

    monkeypatch.setattr(epoch, "train", recorded)
    recipe = settings(store, tmp_path / "runs", "train.epochs=5")
    report = epoch.benchmark_epoch(recipe)
    ((config, watch, finished),) = calls
    assert config.train.epochs == 1
    assert finished
    assert not (tmp_path / "runs").exists()
    rows = {row["part"]: row for row in report.rows}
    assert list(rows) == [*epoch.PARTS, "epoch", "all but the network"]
    total = rows["epoch"]["seconds"]
    assert sum(watch.seconds.values()) == pytest.approx(total)
    assert all(rows[part]["seconds"] > 0 for part in epoch.PARTS)
    assert sum(rows[part]["fraction [%]"] for part in epoch.PARTS) == pytest.approx(100)
    network = (epoch.FORWARD, epoch.BACKWARD, epoch.OPTIMISER, epoch.VALIDATION)
    others = 100 - sum(rows[part]["fraction [%]"] for part in network)
    assert rows["all but the network"]["fraction [%]"] == pytest.approx(others)
    assert float(re.search(r"take ([\d.]+) %", report.notes[0])[1]) == pytest.approx(others, abs=0.005)


def test_forward_passes_are_timed_only_within_the_epoch(store, tmp_path, monkeypatch):
    heard = []
    start = epoch._PartTimes.start

    def listen(self, action_name):
        heard.append((action_name, self._trainer.validating, self._trainer.sanity_checking))
        start(self, action_name)

    monkeypatch.setattr(epoch._PartTimes, "start", listen)
    epoch.benchmark_epoch(settings(store, tmp_path, "data.batch_size=32"))
    forward = [(validating, sanity) for name, validating, sanity in heard if name == epoch.FORWARD]
    assert forward.count((False, False)) == 4  # 127 jets in batches of 32
    assert forward.count((True, False)) == 2  # 43 jets
    assert len(forward) == forward.count((False, True)) + 6
