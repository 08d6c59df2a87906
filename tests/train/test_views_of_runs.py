"""The view of jets in training stays with the model."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from needs_onnx import needs_onnx
from toy_runs import settings, toy_jets

import iagraph
from iagraph.data import JetDataset, read_store, write_store
from iagraph.metrics import roc_auc
from iagraph.models import CheckpointError
from iagraph.studies.runs import open_run
from iagraph.testing import random_jets
from iagraph.train.evaluate import evaluate
from iagraph.train.run import train
from iagraph.views import JetView

MOST = 4


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    return train(settings(store, tmp_path_factory.mktemp("views"), f"data.max_particles={MOST}"))


@pytest.fixture(scope="module")
def with_masses(store, tmp_path_factory):
    return train(settings(store, tmp_path_factory.mktemp("masses"), "data.masses=stored", "train.epochs=1"))


@pytest.fixture(scope="module")
def whole_jets(store):
    return JetDataset(read_store(store, "test"))[:]


def auc_in(folder):
    return json.loads((folder / "metrics.json").read_text())["tagger"]["auc"]["value"]


def test_view_is_recorded(run):
    description = json.loads((run / "model.json").read_text())
    assert description["view"] == {"max_particles": MOST, "masses": "zero"}
    assert description["massive_particles"] == 0
    assert iagraph.load(run).view == JetView(MOST, "zero")


def test_evaluation_and_loaded_model_agree(run, store, whole_jets):
    trained, expected = iagraph.load(run), auc_in(run)
    assert auc_in(evaluate(run, str(store))) == expected
    with torch.inference_mode():
        logits = trained(whole_jets)
        assert roc_auc(whole_jets.y, trained.probabilities(whole_jets)[:, 1]).value == pytest.approx(expected, abs=1e-3)
        assert (logits - trained.model(whole_jets)).abs().max() > 1e-2
    np.testing.assert_allclose(logits, np.load(run / "predictions.npz")["logits"], atol=1e-5)


def test_studies_apply_it(run):
    for jets in open_run(run, 50).batches:
        assert jets.ptr.diff().max() == MOST
        assert not jets.momenta.mass.any()


@pytest.mark.slow
@needs_onnx
def test_exported_files_apply_it(run, whole_jets, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    from iagraph.export import export_onnx
    from iagraph.export.inputs import slots_of

    path, trained = tmp_path / "tagger.onnx", iagraph.load(run)
    assert export_onnx(trained, path, [whole_jets]).largest < 1e-5
    session = onnxruntime.InferenceSession(path)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["view"]) == {"max_particles": MOST, "masses": "zero"}
    inputs = slots_of(whole_jets, ("four_momenta", "num_particles", "pid"))
    (logits,) = session.run(["logits"], {name: values.numpy() for name, values in inputs.items()})
    np.testing.assert_allclose(logits, np.load(run / "predictions.npz")["logits"], atol=1e-4)
    few = slots_of(random_jets([MOST - 1, 0]), ("four_momenta", "num_particles", "pid"), MOST - 1)
    assert np.isfinite(session.run(["logits"], {name: values.numpy() for name, values in few.items()})[0]).all()


def test_torch_export_applies_it(run, whole_jets, tmp_path):
    from iagraph.export import export_program
    from iagraph.export.inputs import slots_of

    assert export_program(iagraph.load(run), tmp_path / "tagger.pt2", [whole_jets]).largest < 1e-5
    files = {"iagraph.json": ""}
    program = torch.export.load(tmp_path / "tagger.pt2", extra_files=files).module()
    assert json.loads(files["iagraph.json"])["view"] == {"max_particles": MOST, "masses": "zero"}
    inputs = slots_of(whole_jets, ("four_momenta", "num_particles", "pid"))
    with torch.inference_mode():
        _, logits = program(*inputs.values())
    np.testing.assert_allclose(logits, np.load(run / "predictions.npz")["logits"], atol=1e-4)


class TestOlderRuns:
    """Earlier runs recorded the view only in their configuration."""

    @pytest.fixture
    def old(self, run, tmp_path):
        folder = Path(shutil.copytree(run, tmp_path / "old"))
        description = json.loads((folder / "model.json").read_text())
        del description["view"], description["massive_particles"]
        (folder / "model.json").write_text(json.dumps(description))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        del config["data"]["masses"]
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    def test_view_comes_from_the_configuration(self, old, store):
        trained = iagraph.load(old)
        assert trained.view == JetView(MOST, "stored")
        assert trained.description["view"] == {"max_particles": MOST, "masses": "stored"}
        assert json.loads((evaluate(old, str(store)) / "metrics.json").read_text())["jets"] == 120

    def test_everything_is_seen_without_a_view(self, old):
        (old / "config.yaml").unlink()
        assert iagraph.load(old).view == JetView()

    @pytest.mark.parametrize("text", ["", "[]", "data: {max_particles: 0}", "data: [", "\0"])
    def test_damaged_views_are_refused(self, old, text):
        (old / "config.yaml").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.yaml: is damaged \(.*\); copy the run anew"):
            iagraph.load(old)


@pytest.mark.parametrize("view", [{"max_particles": 0}, {"masses": 1}, {"more": 1}, 3])
def test_inconsistent_views_are_refused(run, tmp_path, view):
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    description = json.loads((folder / "model.json").read_text()) | {"view": view}
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match=r"model\.json: is damaged or of another version"):
        iagraph.load(folder)


class TestMasses:
    @pytest.fixture
    def massless(self, tmp_path):
        jets = toy_jets(200, 7)
        jets.particles["mass"][:] = 0
        write_store(tmp_path / "massless.h5", jets)
        return tmp_path / "massless.h5"

    def test_massless_jets_give_one_warning(self, with_masses, massless, whole_jets):
        trained, jets = iagraph.load(with_masses), JetDataset(read_store(massless))[:]
        trained(whole_jets)
        with pytest.warns(UserWarning, match=r"\d\d% of the particles in training had a mass, here 0%") as found:
            trained(jets)
        assert found[0].filename == __file__
        trained(jets)

    def test_evaluation_warns(self, with_masses, massless):
        with pytest.warns(UserWarning, match=r"massless\.h5: \d\d% of the particles in training .* here 0%"):
            evaluate(with_masses, str(massless))

    def test_training_on_both_warns(self, massless, store, tmp_path):
        config = settings(store, tmp_path, f"data.train={massless}", "data.masses=stored", "train.epochs=1")
        with pytest.warns(UserWarning, match=r"toy\.h5 \((val|test)\): 0% of the particles in training") as found:
            folder = train(config)
        assert len(found) == 2
        with pytest.warns(UserWarning, match=r"0% of the particles in training had a mass, here \d\d%"):
            iagraph.load(folder)(random_jets([50, 60]))

    def test_models_without_masses_give_the_same(self, run, massless, whole_jets):
        trained = iagraph.load(run)
        momenta = whole_jets.momenta._replace(mass=torch.zeros_like(whole_jets.momenta.mass))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            evaluate(run, str(massless))
            torch.testing.assert_close(trained(replace(whole_jets, momenta=momenta)), trained(whole_jets))
