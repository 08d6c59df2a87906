"""Runs that are interrupted or killed, and the runs that they must equal."""

import json
import multiprocessing
import os
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from toy_runs import settings, weights

from iagraph.models import CheckpointError
from iagraph.train.module import Tagger
from iagraph.train.run import train_into

EPOCHS = 3
BATCH, STEPS = 74, 5  # of 300 jets, in each epoch


def toy(store, output, *more):
    # ParT, as its dropout draws random numbers
    part = "model={name: particle_transformer, width: 8, blocks: 1, class_blocks: 1, heads: 2, particle_hidden: [7], "
    part += "pair_hidden: [5], dropout: 0.3}"
    return settings(
        store, output, "data.pair_features=part", part, f"train.epochs={EPOCHS}", f"data.batch_size={BATCH}", *more
    )


def assert_same(one, other):
    """Assert equal weights, log and predictions to the last bit, and equal bytes in text files without times."""
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(mine[name].equal(theirs[name]) for name in mine)
    texts = [
        {
            path.relative_to(run): path.read_bytes()
            for path in run.rglob("*")
            if path.suffix in (".csv", ".yaml", ".json")
        }
        for run in (one, other)
    ]
    told = [json.loads(each.pop(Path("metrics.json"))) for each in texts]
    for numbers in told:
        del numbers["cost"]["jets_per_second"]
        for measured in ("seconds", "jets_per_second", "peak_memory_mb"):
            del numbers["training"][measured]
    assert told[0] == told[1]
    assert texts[0].keys() == texts[1].keys() >= {Path("log/metrics.csv"), Path("config.yaml"), Path("model.json")}
    for name, content in texts[0].items():
        if name != Path("config.yaml"):  # which names the folder that the runs are in
            assert content == texts[1][name], name
    for name in ("logits", "label"):
        np.testing.assert_array_equal(*(np.load(run / "predictions.npz")[name] for run in (one, other)))
    best = [torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["epoch"] for run in (one, other)]
    assert best[0] == best[1]
    names = [
        {str(path.relative_to(run)) for path in run.rglob("*") if "events" not in path.name} for run in (one, other)
    ]
    assert names[0] == names[1]


class StopError(Exception):
    pass


@contextmanager
def stopped_at(monkeypatch, what, number, error=StopError):
    """Within it, a call of `iagraph.train.run.<what>` or a method, chosen by number, raises instead of running."""
    owner, name = what
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(name)
        if len(calls) == number:
            raise error
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        yield


class Killed:
    """Train or resume in a new process, which may be killed."""

    def __init__(self):
        # A server with all imports done, so that processes start quickly.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["iagraph.train.run"])

    def run(self, function, *arguments, seconds=None, until=None):
        process = self.context.Process(target=_quietly, args=(function, *arguments))
        process.start()
        while until and not until() and process.exitcode is None:
            time.sleep(0.01)
        process.join(0 if until else seconds)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        return process.exitcode


def _quietly(function, *arguments):
    torch.set_num_threads(1)
    function(*arguments)


def train_and_hang(folder, config):
    """Stop in the second epoch, after the state of the first has been saved."""

    def hang(self, jets, batch_index):
        if self.current_epoch == 1 and batch_index == 2:
            (folder / "here").touch()
            time.sleep(600)

    Tagger.on_train_batch_start = hang
    train_into(folder, config)


def train_with_little_room(folder, config):
    """Limit the size of files so that writing the training state fails, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
    try:
        train_into(folder, config)
    except CheckpointError as error:
        (folder / "message").write_text(str(error)[:500])
        os._exit(7)
