"""Trained models can be rebuilt from runs, including those of older versions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import iagraph
from iagraph.jets import JetBatch
from iagraph.models import CheckpointError
from iagraph.models.registry import MODELS, make_model
from iagraph.testing import random_jets

TRAINED = Path(__file__).parent / "trained"
"""Runs as versions wrote them, `NAME-VERSION`; they must stay readable for ever, so nothing here may be regenerated.

Made by `python tests/models/make_trained.py`, which refuses to replace any.
"""
RUNS = sorted(path for path in TRAINED.iterdir() if path.is_dir())
JETS = ([5, 1, 0, 17], 3)


def stored_jets(needs_species):
    jets = random_jets(*JETS)
    return jets if needs_species else JetBatch(jets.momenta, jets.ptr)


@pytest.mark.parametrize("run", RUNS, ids=[run.name for run in RUNS])
def test_stored_models_reproduce_their_logits(run):
    model = iagraph.load(run)
    expected = np.load(run / "logits.npy", allow_pickle=False)
    with torch.inference_mode():
        found = model(random_jets(*JETS))
    assert model.classes == ("gluon", "quark")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.probabilities(random_jets(*JETS)).sum(1), torch.ones(4))
    assert not model.model.training
    assert not any(name.startswith(("module.", "_orig_mod.")) for name in model.model.state_dict())


def test_all_models_are_stored():
    stored = {json.loads((run / "model.json").read_text())["model"]["name"] for run in RUNS}
    assert stored == set(MODELS)


def test_jets_without_the_features_are_refused():
    model = iagraph.load(TRAINED / "particlenet-0.1.0")
    with pytest.raises(ValueError, match="need particle species, but these jets have no 'pid'"):
        model(stored_jets(False))


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(TRAINED / "iaformer-0.1.0", tmp_path / "run"))


class TestRefusals:
    def test_no_run(self, tmp_path):
        with pytest.raises(CheckpointError, match=r": lacks model\.json; give the folder of a finished run"):
            iagraph.load(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}', '{"model": {"name": "x"}, "classes": []}'])
    def test_damaged_description(self, run, text):
        (run / "model.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"model\.json: is damaged or of another version"):
            iagraph.load(run)

    def test_weights_of_another_model(self, run):
        shutil.copy(TRAINED / "plain_transformer-0.1.0" / "model.pt", run / "model.pt")
        with pytest.raises(CheckpointError, match=r"does not fit the model of model\.json, \d+ differences"):
            iagraph.load(run)

    def test_code_is_not_executed(self, run):
        torch.save({"weight": Path}, run / "model.pt")
        with pytest.raises(CheckpointError, match="can run code"):
            iagraph.load(run)


def test_arguments_of_models_are_checked():
    with pytest.raises(TypeError):
        make_model("iaformer", depth=3)
    with pytest.raises(ValueError, match="unknown pruning rule"):
        make_model("iaformer", pruning={"rule": "best", "strength": 1})
