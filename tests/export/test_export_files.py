"""Exported files: complete, with open sizes, and the numbers of the model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from needs_onnx import needs_onnx
from torch_geometric.data import Batch

import iagraph
from iagraph.export import ExportError, export_onnx, export_program
from iagraph.export.comparison import difference, edge_case_jets
from iagraph.export.inputs import slots_of
from iagraph.models import IAFormer, ParticleNet, ParticleTransformer
from iagraph.models.registry import MODELS, TrainedModel
from iagraph.predict import ExportedPredictor
from iagraph.testing import random_jets

onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
pytestmark = needs_onnx

TRAINED = Path(__file__).parents[1] / "models" / "trained"
NAMES = ("four_momenta", "num_particles", "pid")
KINDS = ["iaformer", "particlenet", "particle_transformer"]


# Each export takes ten seconds and more. Padded as exported models are, ParT is compared in test_padded.py, too.
@pytest.fixture(scope="module", params=["iaformer", "particlenet", pytest.param(KINDS[2], marks=pytest.mark.slow)])
def exported(request, tmp_path_factory):
    trained = iagraph.load(TRAINED / f"{request.param}-0.1.0")
    path = tmp_path_factory.mktemp(request.param) / "tagger.onnx"
    return trained, path, export_onnx(trained, path, [random_jets([9, 4], seed=5)])


def run(path, jets, slots, names=NAMES):
    arrays = {name: values.numpy() for name, values in slots_of(jets, names, slots).items()}
    return [torch.from_numpy(each) for each in onnxruntime.InferenceSession(path).run(None, arrays)]


def test_sizes_of_jets_and_batches_are_dynamic(exported):
    trained, path, _ = exported
    for counts in ([3], [0], [1], [2, 0, 1], [29, 5], [1] * 7):
        jets = random_jets(counts, seed=sum(counts))
        for slots in (max(*counts, 1), max(counts) + 3):
            probabilities, logits = run(path, jets, slots)
            with torch.inference_mode():
                assert difference(logits, trained(jets)).max() < 1e-5
                assert difference(probabilities, trained.probabilities(jets)).max() < 1e-5


def test_padding_is_ignored(exported):
    _, path, _ = exported
    jets = random_jets([5, 0, 7])
    arrays = {name: values.numpy() for name, values in slots_of(jets, NAMES, 9).items()}
    session = onnxruntime.InferenceSession(path)
    expected = session.run(["logits"], arrays)[0]
    padding = np.arange(9) >= arrays["num_particles"][:, None]
    arrays["four_momenta"][padding], arrays["pid"][padding] = np.nan, 13
    assert np.array_equal(session.run(["logits"], arrays)[0], expected)


def test_metadata_describe_model_and_inputs(exported):
    trained, path, comparison = exported
    model = onnx.load(path, load_external_data=False)
    assert not any(each.external_data for each in model.graph.initializer)
    told = {each.key: each.value for each in model.metadata_props}
    assert json.loads(told["classes"]) == list(trained.classes)
    assert json.loads(told["model"]) == trained.description["model"]
    assert json.loads(told["data"]) == trained.description["data"]
    assert json.loads(told["node_features"]) == trained.description["node_features"]
    assert told["iagraph"] == iagraph.__version__
    assert json.loads(told["comparison"]) == comparison._asdict() | {"tolerance": 1e-5}
    meanings = json.loads(told["inputs"])
    assert list(meanings) == list(NAMES)
    assert {each.name: each.doc_string for each in model.graph.input} == meanings
    assert "GeV" in meanings["four_momenta"]
    shapes = [
        [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim] for each in model.graph.input
    ]
    assert shapes == [["jets", "particles", 4], ["jets"], ["jets", "particles"]]
    assert [each.name for each in model.graph.output] == ["probabilities", "logits"]
    assert model.opset_import[0].version == 20


def test_comparison_is_reported(exported):
    _, _, comparison = exported
    assert comparison.jets == len(edge_case_jets()) + 2
    assert comparison.largest < 1e-5
    assert comparison.undecided == 0


def test_programs_of_torch_export(tmp_path):
    trained = iagraph.load(TRAINED / "plain_transformer-0.1.0")
    path = tmp_path / "tagger.pt2"
    comparison = export_program(trained, path)
    files = {"iagraph.json": ""}
    module = torch.export.load(path, extra_files=files).module()
    assert json.loads(files["iagraph.json"])["classes"] == ["gluon", "quark"]
    assert json.loads(files["iagraph.json"])["comparison"]["largest"] == comparison.largest < 1e-5
    for counts in ([3], [0, 4], [1]):
        jets = random_jets(counts)
        with torch.inference_mode():
            _, logits = module(*slots_of(jets, NAMES, max(counts) + 1).values())
            assert difference(logits, trained(jets)).max() < 1e-5


def test_differing_files_are_not_written(tmp_path, monkeypatch):
    trained = iagraph.load(TRAINED / "plain_transformer-0.1.0")
    path = tmp_path / "tagger.pt2"
    path.write_text("older")
    monkeypatch.setattr("iagraph.export.comparison.TOLERANCE", 0.0)
    with pytest.raises(
        ExportError, match=r"differs by .* from PyTorch's for a jet of \d+ particles.*no file was written"
    ):
        export_program(trained, path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [export_onnx, export_program])
def test_exported_models_take_every_input_of_models(tmp_path, monkeypatch, write):
    """From paths as users write them, too: texts, with the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    trained = iagraph.load(TRAINED / "plain_transformer-0.1.0")
    name = "tagger.onnx" if write is export_onnx else "tagger.pt2"
    write(trained, f"~/{name}")
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    exported, jets = ExportedPredictor(f"~/{name}"), random_jets([5, 1, 7], seed=2)
    graphs = jets.to_data_list()
    with torch.inference_mode():
        for given in (jets, graphs, graphs[0], Batch.from_data_list(graphs)):
            torch.testing.assert_close(exported.probabilities(given), trained.probabilities(given), rtol=0, atol=1e-5)
        for none in (jets.part(0, 0), random_jets([0]), random_jets([0, 0])):
            found = exported.probabilities(none)
            assert found.shape == (len(none), 2)
            assert found.dtype == torch.float32


def test_older_operators_and_float_inputs(tmp_path):
    """In one test, as each export takes seconds; it includes the comparison with the model."""
    trained = iagraph.load(TRAINED / "plain_transformer-0.1.0")
    path = tmp_path / "tagger.onnx"
    assert export_onnx(trained, path, opset=18, float_inputs=True).largest < 1e-5
    model = onnx.load(path)
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    assert {each.type.tensor_type.elem_type for each in model.graph.input} == {onnx.TensorProto.FLOAT}
    assert all("int" not in each.doc_string.split(":")[0] for each in model.graph.input)
    jets = random_jets([5, 0, 7])
    arrays = {name: values.float().numpy() for name, values in slots_of(jets, NAMES, 9).items()}
    padding = np.arange(9) >= arrays["num_particles"][:, None]
    arrays["four_momenta"][padding], arrays["pid"][padding] = np.nan, np.nan
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], arrays)
    with torch.inference_mode():
        assert difference(torch.from_numpy(logits), trained(jets)).max() < 1e-5
    with pytest.raises(ExportError, match="opset 17: expected one of 18, 19, 20"):
        export_onnx(trained, tmp_path / "other.onnx", opset=17)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_all_models_with_older_operators_and_float_inputs(name, tmp_path):
    trained = iagraph.load(TRAINED / f"{name}-0.1.0")
    jets = [random_jets([9, 41], seed=5)]
    assert export_onnx(trained, tmp_path / name, jets, opset=18, float_inputs=True).largest < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MODELS) - set(KINDS)))
def test_all_other_models(name, tmp_path):
    trained = iagraph.load(TRAINED / f"{name}-0.1.0")
    for write in (export_onnx, export_program):
        assert write(trained, tmp_path / name, [random_jets([9, 41], seed=5)]).largest < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("kind", [IAFormer, ParticleTransformer, ParticleNet])
@pytest.mark.parametrize("features", ["kin", "full"])
def test_models_of_the_published_sizes(kind, features, tmp_path):
    torch.manual_seed(4)
    trained = TrainedModel(kind(features).eval(), {"classes": ["a", "b"]})
    comparison = export_onnx(trained, tmp_path / "tagger.onnx", [random_jets(range(1, 60), seed=6)])
    assert comparison.largest < 1e-5
