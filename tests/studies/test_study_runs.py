import dataclasses
import statistics
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_runs import settings, toy_jets

from iagraph.data import JetDataset
from iagraph.studies.runs import labels, open_run
from iagraph.studies.timing import seconds_per_jet
from iagraph.train.folder import RunError
from iagraph.train.run import train_into


class _Slow(nn.Module):
    """A model that advances a fake clock by given times, and records its turns."""

    def __init__(self, name, seconds, clock, turns):
        super().__init__()
        self.name, self.seconds, self.clock, self.turns = name, seconds, clock, turns

    def forward(self, jets):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.turns.append(self.name)
        self.clock[0] += next(self.seconds)
        return torch.zeros(len(jets), 2)


def test_time_per_jet_is_the_median_of_rounds_after_the_first(monkeypatch):
    clock, turns = [0.0], []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    jets = [JetDataset(toy_jets(7, 1))[:], JetDataset(toy_jets(4, 2))[:]]
    # Two batches per round; the first round and one of five are slow.
    a = iter([50, 50, 1, 2, 2, 2, 90, 90, 3, 2, 1, 1])
    models = {"a": _Slow("a", a, clock, turns), "b": _Slow("b", iter([11] * 12), clock, turns)}
    found = seconds_per_jet(models, {"a": jets, "b": jets}, torch.device("cpu"))
    assert found == {"a": statistics.median([3, 4, 180, 5, 2]) / 11, "b": 22 / 11}
    assert "".join(turns) == "aabb" * 6


def test_runs_of_equal_name_are_distinguished():
    paths = [Path(path) for path in ("/a/small/seed-1", "/a/large/seed-1", "/a/other")]
    assert labels(paths) == ["small/seed-1", "large/seed-1", "other"]


def test_duplicate_runs_are_refused():
    with pytest.raises(RunError, match=r"seed-1: this run is given twice"):
        labels([Path("/a/seed-1"), Path("/b"), Path("/a/../a/seed-1")])


def test_species_are_known_to_studies_of_models_that_do_not_see_them(store, tmp_path):
    train_into(tmp_path / "kin", settings(store, tmp_path, "data.node_features=kin", "train.epochs=1"))
    run = open_run(tmp_path / "kin", 30)
    (jets,) = run.batches
    assert jets.pid is not None
    blind = dataclasses.replace(jets, pid=None)
    assert run.model(jets).equal(run.model(blind))
