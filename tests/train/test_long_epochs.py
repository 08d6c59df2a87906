"""Epochs that are not passes over the jets: schedule, log, interruption and extension count in them."""

import shutil

import pytest
from interrupted_runs import BATCH, StopError, assert_same, stopped_at, toy

from iagraph.train.config import load_config
from iagraph.train.folder import RunError, read_history
from iagraph.train.module import Tagger
from iagraph.train.run import resume, train_into
from iagraph.train.schedules import warmup_cosine

JETS = 175  # of 300: the second epoch ends in another pass
STEPS = 3
LONG = [f"train.jets_per_epoch={JETS}"]
STREAMED = ["data.in_memory=false", "data.workers=1"]


@pytest.fixture(scope="module", params=[[], STREAMED], ids=["memory", "streamed"])
def changes(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iagraph.data.sources.BLOCK", 16)
        patch.setattr("iagraph.data.loader.POOL", 100)
        yield [*LONG, *request.param]


@pytest.fixture(scope="module")
def undisturbed(store, changes, tmp_path_factory):
    """A run of three epochs, and its learning rates."""
    rates, folder = [], tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Tagger, "on_train_batch_start", lambda self, *_: rates.append(self.optimizers().param_groups[0]["lr"])
        )
        train_into(folder, toy(store, folder.parent, *changes))
    return folder, rates


def test_schedule_and_log_count_in_epochs(undisturbed):
    folder, rates = undisturbed
    assert [row["epoch"] for row in read_history(folder)] == [1, 2, 3]
    train = load_config(folder / "config.yaml").train
    seen = [(epoch + BATCH * step / JETS) / 3 for epoch in range(3) for step in range(STEPS)]
    lowest = train.min_learning_rate / train.learning_rate
    assert rates == pytest.approx([train.learning_rate * warmup_cosine(each, train.warmup, lowest) for each in seen])


def test_a_run_interrupted_within_a_pass_resumes_exactly(store, tmp_path, monkeypatch, changes, undisturbed):
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 2), pytest.raises(StopError):
        train_into(tmp_path / "run", toy(store, tmp_path, *changes))
    assert resume(tmp_path / "run") == tmp_path / "run"
    assert_same(tmp_path / "run", undisturbed[0])


def test_more_epochs_but_no_others(undisturbed, tmp_path):
    run = shutil.copytree(undisturbed[0], tmp_path / "run")
    with pytest.raises(RunError, match=r"only train\.epochs and train\.patience may .* found train\.jets_per_epoch"):
        resume(run, ["train.epochs=4", "train.jets_per_epoch=100"])
    resume(run, ["train.epochs=4"])
    assert [row["epoch"] for row in read_history(run)] == [1, 2, 3, 4]


def test_epochs_of_fewer_jets_than_a_batch(store, tmp_path):
    train_into(tmp_path / "run", toy(store, tmp_path, "train.jets_per_epoch=2", "data.max_jets=290"))
    assert len(read_history(tmp_path / "run")) == 3
