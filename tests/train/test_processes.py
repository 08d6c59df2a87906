"""Two processes train like one on the batches of both."""

import os
import signal
import subprocess
import sys
import time
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import RECIPE, settings, weights

from iagraph.data import JetLoader
from iagraph.jets import JetBatch
from iagraph.train import processes
from iagraph.train.checkpoints import LAST
from iagraph.train.config import load_config
from iagraph.train.datamodule import JetDataModule
from iagraph.train.folder import RunError, read_history
from iagraph.train.run import train, train_into

SCRIPT = RECIPE.parents[1] / "scripts" / "train.py"
# Of 297 jets one process has 148, the other 149: with batches of 37 the last one of the first is without jets.
CHANGES = ("data.max_jets=297", "data.batch_size=37", "train.epochs=3")


class OfBoth:
    """The batches of two processes, joined."""

    def __init__(self, data, **more):
        self.uneven = "max_pairs" in more
        train, order = data.datasets["train"], {"shuffle": True, "seed": data.seed}
        self.loaders = [JetLoader(train, 37, shard=(rank, 2), **order, **more) for rank in (0, 1)]

    def __iter__(self):
        # A new epoch at once, as of a JetLoader.
        batches = zip_longest(*self.loaders) if self.uneven else zip(*self.loaders, strict=True)
        return (JetBatch.concatenate([batch for batch in each if batch is not None]) for each in batches)

    def __len__(self):
        return len(self.loaders[0])


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """The run of one process that sees the batches of two."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JetDataModule, "train_dataloader", lambda data: OfBoth(data))
        train_into(folder, settings(store, folder.parent, *CHANGES, "data.batch_size=74"))
    return folder


def command(store, *more):
    keys = settings(store, "runs", *CHANGES).model_dump()
    changes = [f"data.{role}={store}" for role in ("train", "val", "test")]
    changes += ["model.blocks=1", "model.pair_hidden=[7]", "model.particle_hidden=[11]", "train.device=cpu"]
    assert keys["model"]["pair_hidden"] == [7]
    return [sys.executable, str(SCRIPT), str(RECIPE), *changes, *CHANGES, "train.devices=2", *more]


def environment():
    """One thread each, with the tested package."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RECIPE.parents[1])}


def assert_alike(run, alone):
    for mine, theirs in zip(read_history(run), read_history(alone), strict=True):
        assert mine == pytest.approx(theirs, rel=2e-5)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=1e-3, atol=1e-5)
    logits = [np.load(folder / "predictions.npz")["logits"] for folder in (run, alone)]
    assert logits[0].shape == (120, 2)
    np.testing.assert_allclose(*logits, atol=1e-4)


def test_two_processes_train_like_one(store, tmp_path, alone):
    done = subprocess.run(
        command(store, f"output={tmp_path}"), env=environment(), timeout=300, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["qg-001"]
    assert_alike(tmp_path / "qg-001", alone)


def test_two_processes_with_other_numbers_of_batches_train_as_one(store, tmp_path, monkeypatch):
    budget = {"max_pairs": 500, "jets_per_epoch": 200}  # of 297 jets, so that the second epoch begins a new pass

    def of_both(data):
        numbers = [[len(list(loader)) for _ in range(2)] for loader in OfBoth(data, **budget).loaders]
        validation = [JetLoader(data.datasets["val"], 37, shard=(rank, 2), max_pairs=500) for rank in (0, 1)]
        assert (numbers, [len(list(loader)) for loader in validation]) == ([[20, 19], [19, 22]], [7, 8])
        return OfBoth(data, **budget)

    changes = ("train.epochs=2", "train.jets_per_epoch=200")
    monkeypatch.setattr(JetDataModule, "train_dataloader", of_both)
    train_into(tmp_path / "one", settings(store, tmp_path, *CHANGES, "data.batch_size=74", *changes))
    two = command(store, "data.max_pairs=500", *changes, "--into", tmp_path / "two")
    done = subprocess.run(two, env=environment(), timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_alike(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_torchrun_starts_and_restarts_processes(store, tmp_path, alone):
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517"]
    _, *arguments = command(store, f"output={tmp_path}")
    refused = subprocess.run([*torchrun, *arguments], env=environment(), timeout=300, capture_output=True, text=True)
    assert refused.returncode
    assert processes.ADVICE in refused.stderr
    for _ in range(2):  # the second time it has finished
        subprocess.run([*torchrun, *arguments, "--into", run], check=True, env=environment(), timeout=300)
        assert_alike(run, alone)


@pytest.mark.slow
def test_killed_processes_resume_as_if_uninterrupted(store, tmp_path):
    part = "model={name: particle_transformer, width: 8, blocks: 2, class_blocks: 1, heads: 2, particle_hidden: [7], "
    part += "pair_hidden: [5], dropout: 0.3}"  # which draws random numbers, others in each process
    changes = [f"data.{role}={store}" for role in ("train", "val", "test")]
    changes += ["data.pair_features=part", part, "train.device=cpu", "train.devices=2", *CHANGES, "train.epochs=4"]
    arguments = [sys.executable, str(SCRIPT), str(RECIPE), *changes]
    subprocess.run([*arguments, "--into", tmp_path / "undisturbed"], check=True, env=environment(), timeout=300)
    run = tmp_path / "run"
    training = subprocess.Popen([*arguments, "--into", run], env=environment(), start_new_session=True)
    while not (run / "checkpoints" / LAST).exists():
        assert training.poll() is None
        time.sleep(0.01)
    os.killpg(training.pid, signal.SIGKILL)
    training.wait()
    assert not (run / "metrics.json").exists()
    resume = [sys.executable, str(SCRIPT), "--resume", run]
    subprocess.run(resume, check=True, env=environment(), timeout=300)
    for name, tensor in weights(tmp_path / "undisturbed").items():
        assert tensor.equal(weights(run)[name]), name
    logs = [(folder / "log" / "metrics.csv").read_text() for folder in (run, tmp_path / "undisturbed")]
    assert logs[0] == logs[1]


class TestInto:
    def test_finished_run_is_unchanged(self, alone):
        before = (alone / "metrics.json").stat().st_mtime_ns
        config = load_config(alone / "config.yaml")
        assert train(config, into=alone) == alone
        assert (alone / "metrics.json").stat().st_mtime_ns == before

    def test_run_killed_at_the_start_restarts(self, store, tmp_path):
        (tmp_path / "run" / "checkpoints").mkdir(parents=True)
        (tmp_path / "run" / "checkpoints" / ".lock").touch()
        train(settings(store, tmp_path, "train.epochs=1"), into=tmp_path / "run")
        assert (tmp_path / "run" / "metrics.json").exists()
        assert load_config(tmp_path / "run" / "config.yaml").train.epochs == 1

    def test_folder_without_a_run_is_refused(self, store, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").touch()
        for into in (tmp_path / "run", tmp_path / "run" / "thesis.tex"):
            with pytest.raises(RunError, match=f"{into}: exists and holds no run; give another folder"):
                train(settings(store, tmp_path), into=into)

    def test_another_configuration_is_refused(self, alone):
        config = load_config(alone / "config.yaml", ["seed=9", "train.clip=2"])
        with pytest.raises(RunError, match=r"holds a run that differs in seed, train\.clip; give another folder"):
            train(config, into=alone)

    def test_interrupted_run_is_resumed(self, store, tmp_path, monkeypatch):
        import iagraph.train.run as run

        config = settings(store, tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(run, "save_model", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                train(config, into=tmp_path / "run")
        assert train(config, into=tmp_path / "run") == tmp_path / "run"
        assert (tmp_path / "run" / "metrics.json").exists()


class TestAgreement:
    def test_started_from_outside(self, monkeypatch):
        monkeypatch.delenv(processes.VARIABLE, raising=False)
        processes.check_started_alone()
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(RunError, match="--into FOLDER"):
            processes.check_started_alone()
        with pytest.raises(RunError, match="--into FOLDER"):
            processes.shared_folder()

    def test_started_by_the_first(self, monkeypatch, tmp_path):
        monkeypatch.setenv(processes.VARIABLE, "")
        processes.share_folder(tmp_path)
        assert processes.shared_folder() == Path(tmp_path).resolve()
