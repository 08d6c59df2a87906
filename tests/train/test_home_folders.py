"""``~`` is the home folder in every path of a run."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Subset
from toy_runs import settings, toy_jets

import iagraph
from iagraph.data import JetDataset, JetLoader, JetStore, write_store
from iagraph.models import load_weights
from iagraph.studies.compare.config import load_comparison
from iagraph.train.evaluate import evaluate
from iagraph.train.folder import load_run, read_history
from iagraph.train.run import resume, train


def test_run_files_are_in_one_folder(store, tmp_path, monkeypatch):
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    run = train(settings(store, "~/runs", "train.epochs=1"))
    assert run == home / "runs" / "qg-001"
    with monkeypatch.context() as patch:
        import iagraph.train.run as module

        patch.setattr(module, "save_model", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(settings(store, "~/runs", "train.epochs=1"), into="~/other")
    assert resume("~/other") == home / "other"
    assert train(settings(store, "~/runs", "train.epochs=1"), into=Path("~/other")) == home / "other"
    write_store(Path("~/jets.h5"), toy_jets(40, 3))
    assert len(JetStore("~/jets.h5")) == 40
    assert evaluate("~/other", "~/jets.h5").parent == home / "other"
    assert load_run("~/other").classes == iagraph.load("~/other").classes
    load_weights(iagraph.load("~/other").model, "~/other")
    fine_tune = ["fine_tune.weights=~/other", "fine_tune.new_head=true", f"data.train={home}/jets.h5", "train.epochs=1"]
    assert train(settings(store, "~/runs", *fine_tune)) == home / "runs" / "qg-002"
    (home / "compare.yaml").write_text("name: a\nseeds: [1]\nrecipes: {A: ~/other/config.yaml}\noutput: ~/studies\n")
    assert load_comparison("~/compare.yaml").folder == home / "studies" / "a"
    assert not list(here.iterdir())


class Bare:
    """A standard output that can only be written to."""

    def __init__(self):
        self.text = io.StringIO()
        self.write, self.flush = self.text.write, self.text.flush


@pytest.mark.parametrize("stdout", [Bare(), None])
def test_output_that_is_not_a_terminal(store, tmp_path, monkeypatch, stdout):
    monkeypatch.setattr(sys, "stdout", stdout)
    run = train(settings(store, tmp_path, "train.epochs=1", "data.batch_size=29"))
    if stdout:
        (epoch,) = read_history(run)
        losses = f"train_loss {epoch['train_loss']:.4f}, val_loss {epoch['val_loss']:.4f}, "
        assert f"epoch 1 of 1: {losses}" in stdout.text.getvalue()


def test_invalid_jet_sources_are_refused():
    jets = JetDataset(toy_jets(20, 1))
    for wrong in (Subset(jets, [1, 2]), jets[:], [1, 2], torch.zeros(3), np.zeros(3)):
        with pytest.raises(
            TypeError, match=f"JetLoader takes a JetDataset or StoredJets, found {type(wrong).__name__}; select jets"
        ):
            JetLoader(wrong, 4)
