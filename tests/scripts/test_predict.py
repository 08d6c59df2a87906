import csv
import json
import re
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from data.conftest import numbered_jets

import iagraph
from iagraph import cli
from iagraph.data import JetDataset, Jets, read_store, resolve, store_info, write_store
from iagraph.export import export_onnx, export_program
from iagraph.predict import Scores, predictors, write_scores
from iagraph.predict.writers import FORMATS

TRAINED = Path(__file__).parents[1] / "models" / "trained" / "iaformer-0.1.0"


@pytest.fixture
def predict(monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["iagraph", "predict", *map(str, words)])
        cli.main()

    return run


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two files, in parts that do not divide them, and the probabilities of their jets."""
    monkeypatch.setattr(predictors, "PART", 7)
    jets = read_store(resolve("sample:qg")).part(0, 31)
    write_store(tmp_path / "a.h5", jets.part(0, 18))
    others = Jets(**vars(jets.part(18, 31)) | {"classes": ("top", "quark")})
    write_store(tmp_path / "b.h5", others)
    with torch.inference_mode():
        return [tmp_path / "a.h5", tmp_path / "b.h5"], iagraph.load(TRAINED).probabilities(JetDataset(jets)[:]).numpy()


def columns_of(path):
    if path.suffix == ".csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}, {}
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {name: file[name][:] for name in file}, json.loads(file.attrs["about"])
    if path.suffix == ".parquet":
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        return {name: table[name].to_numpy() for name in table.column_names}, json.loads(
            table.schema.metadata[b"iagraph"]
        )
    with pytest.importorskip("uproot").open(path) as file:
        return file["scores"].arrays(library="np"), json.loads(file["about"])


@pytest.mark.parametrize("ending", FORMATS)
def test_scores_of_several_files(predict, files, tmp_path, ending, capsys):
    (one, other), expected = files
    out = tmp_path / f"scores{ending}"
    predict(TRAINED, one, other, "--out", out, "--batch-size", 4)
    found, about = columns_of(out)
    assert set(found) == {"file", "jet", "score_gluon", "score_quark", "label"}
    assert found["file"].tolist() == [0] * 18 + [1] * 13
    assert found["jet"].tolist() == [*range(18), *range(13)]
    np.testing.assert_allclose(np.stack([found["score_gluon"], found["score_quark"]], 1), expected, rtol=0, atol=1e-6)
    labels = read_store(one).label.tolist(), np.where(read_store(other).label == 1, 1, -1).tolist()
    assert found["label"].tolist() == labels[0] + labels[1]
    if about:
        assert about["classes"] == ["gluon", "quark"]
        assert about["files"] == [str(one), str(other)]
    assert re.search(r"\b31 jets\b.*gluon, quark", capsys.readouterr().out)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("classes", [('$t_{q}$, "x"', "QCD, light"), ("a\nb", "γ")])
def test_names_of_classes_are_quoted_in_csv(tmp_path, monkeypatch, classes):
    monkeypatch.setenv("HOME", str(tmp_path))
    scores = Scores(0, 3, np.array([[0.25, 0.75], [1, 0]], np.float32), np.array([1, 0]))
    write_scores("~/scores.csv", [scores], classes, {}, labelled=True)
    table = pytest.importorskip("pandas").read_csv(tmp_path / "scores.csv")
    assert list(table) == ["file", "jet", *(f"score_{name}" for name in classes), "label"]
    np.testing.assert_array_equal(table.to_numpy(), [[0, 3, 0.25, 0.75, 1], [0, 4, 1, 0, 0]])
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert next(csv.reader(file)) == list(table)


def test_jets_of_the_training_are_named(predict, files, tmp_path, capsys):
    (one, other), _ = files
    model = shutil.copytree(TRAINED, tmp_path / "model")
    about = json.loads((model / "model.json").read_text())
    about["trained_on"] = [[store_info(one).fingerprint, 3, 11]]
    (model / "model.json").write_text(json.dumps(about))
    predict(model, other, "--out", tmp_path / "scores.csv", one)
    printed = capsys.readouterr().out
    assert f"{one}: the model was trained on the jets 3 to 10, " in printed
    assert f"{other}: the model was trained" not in printed
    about["data"]["train"] = {"a.h5": store_info(one).fingerprint}
    (model / "model.json").write_text(json.dumps(about | {"training_jets": 5}))
    predict(model, one, "--out", tmp_path / "others.csv")
    assert f"{one}: the model was trained on some of the jets 3 to 10, " in capsys.readouterr().out


def test_in_python(files):
    (one, other), expected = files
    tagger = iagraph.load(TRAINED)
    np.testing.assert_allclose(tagger.predict([one, other], batch_size=5), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(tagger.predict(str(one)), tagger.predict([one]))


@pytest.mark.parametrize("write", [export_program, pytest.param(export_onnx, marks=pytest.mark.slow)])
def test_exported_models_give_the_same_scores(predict, files, tmp_path, write):
    pytest.importorskip("onnxruntime", reason="exported models need pip install 'iagraph[export]'")
    (one, other), expected = files
    model = tmp_path / ("tagger.pt2" if write is export_program else "tagger.onnx")
    write(iagraph.load(TRAINED), model)
    predict(model, one, other, "--out", tmp_path / "scores.csv", "--batch-size", 4)
    found, _ = columns_of(tmp_path / "scores.csv")
    np.testing.assert_allclose(found["score_quark"], expected[:, 1], rtol=0, atol=1e-5)


def test_jets_of_unknown_classes_have_no_label(predict, tmp_path):
    jets = read_store(resolve("sample:qg")).part(0, 3)
    write_store(tmp_path / "a.h5", Jets(**vars(jets) | {"classes": ("W", "Z")}))
    predict(TRAINED, tmp_path / "a.h5", "--out", tmp_path / "s.csv")
    assert "label" not in columns_of(tmp_path / "s.csv")[0]


def test_jets_without_labels_by_a_map(predict, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "PT": [[5.0, 2.0], [7.0]],
        "Eta": [[0.1, 0.2], [-0.3]],
        "Phi": [[0.0, 3.0], [1.0]],
        "id": [[22, 11], [22]],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "map.yaml").write_text("particles: {pt: PT, eta: Eta, phi: Phi, pid: id}\nunlabelled: true\n")
    predict(TRAINED, tmp_path / "a.parquet", "--map", tmp_path / "map.yaml", "--out", tmp_path / "s.csv")
    found, _ = columns_of(tmp_path / "s.csv")
    assert list(found) == ["file", "jet", "score_gluon", "score_quark"]
    np.testing.assert_allclose(found["score_gluon"] + found["score_quark"], [1, 1], rtol=1e-6)


class TestMistakes:
    def refused(self, predict, tmp_path, *words):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(SystemExit) as stopped:
            predict(*words)
        assert sorted(tmp_path.iterdir()) == before
        assert "\n" not in str(stopped.value)
        return str(stopped.value)

    def test_jets_without_required_features(self, predict, tmp_path):
        jets = numbered_jets([2, 3])
        jets.particles.pop("pid")
        write_store(tmp_path / "a.h5", jets)
        told = self.refused(predict, tmp_path, TRAINED, tmp_path / "a.h5", "--out", tmp_path / "s.csv")
        assert told.startswith(f"error: {tmp_path / 'a.h5'}: no particle species (pid), which the model was trained wi")

    def test_truncated_file(self, predict, tmp_path):
        write_store(tmp_path / "a.h5", read_store(resolve("sample:qg")).part(0, 40))
        whole = (tmp_path / "a.h5").read_bytes()
        (tmp_path / "b.h5").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "s.h5").write_text("old")
        words = (TRAINED, tmp_path / "a.h5", tmp_path / "b.h5", "--out", tmp_path / "s.h5")
        assert "already exists" in self.refused(predict, tmp_path, *words)
        assert f"error: {tmp_path / 'b.h5'}: " in self.refused(predict, tmp_path, *words, "--force")
        assert (tmp_path / "s.h5").read_text() == "old"

    def test_jets_are_not_replaced_by_scores(self, predict, tmp_path):
        write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
        before = (tmp_path / "a.h5").read_bytes()
        told = self.refused(predict, tmp_path, TRAINED, tmp_path / "a.h5", "--out", tmp_path / "a.h5", "--force")
        assert (
            told == f"error: {tmp_path / 'a.h5'}: holds jets to score, which scores would replace; choose another name"
        )
        assert (tmp_path / "a.h5").read_bytes() == before
        (tmp_path / "b.csv").mkdir()
        told = self.refused(predict, tmp_path, TRAINED, tmp_path / "a.h5", "--out", tmp_path / "b.csv", "--force")
        assert told == f"error: {tmp_path / 'b.csv'}: a folder; name a file in it"

    @pytest.mark.parametrize("device", ["cuda", "mps"])
    def test_missing_device(self, predict, tmp_path, device):
        if getattr(torch, device).is_available():
            pytest.skip("the device is here")
        told = self.refused(predict, tmp_path, TRAINED, "sample:qg", "--out", tmp_path / "s.csv", "--device", device)
        assert re.fullmatch(rf"error: device '{device}': .+; use another one, such as cpu", told)

    @pytest.mark.parametrize(
        ("model", "out", "message"),
        [
            (TRAINED, "s.txt", "s.txt: should end in .parquet, .h5, .csv, .root, which sets the format"),
            (TRAINED, "gone/s.csv", "gone: no such folder; make it first"),
            ("nothing", "s.csv", "nothing: no such folder; give the folder of a finished run"),
            ("a.onnx", "s.csv", "a.onnx: no such file; check folder and name"),
            ("text.pt2", "s.csv", "text.pt2: is damaged, or not written by iagraph export ("),
        ],
    )
    def test_arguments(self, predict, tmp_path, monkeypatch, model, out, message):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "text.pt2").write_text("not a model")
        assert self.refused(predict, tmp_path, model, "sample:qg", "--out", out).startswith(f"error: {message}")
