import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from data.conftest import numbered_jets
from needs_onnx import needs_onnx

from iagraph.data import write_store
from iagraph.export.of_run import JETS, comparison_jets
from iagraph.models.registry import load

pytestmark = needs_onnx

SCRIPT = Path(__file__).parents[2] / "scripts" / "export.py"
TRAINED = Path(__file__).parents[1] / "models" / "trained"


@pytest.fixture
def export(monkeypatch):
    def start(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return start


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(TRAINED / "plain_transformer-0.1.0", tmp_path / "run"))


def say_tested_on(run, files):
    about = json.loads((run / "model.json").read_text())
    about["data"]["test"] = dict.fromkeys(files, "")
    (run / "model.json").write_text(json.dumps(about))


@pytest.mark.parametrize("kinds", [["pt2"], pytest.param(["onnx", "pt2"], marks=pytest.mark.slow)], ids=" and ".join)
def test_writes_files_and_reports_the_comparison(export, run, tmp_path, capsys, kinds):
    say_tested_on(run, ["sample:qg"])
    files = [tmp_path / f"tagger.{kind}" for kind in kinds]
    export(run, *(word for kind, file in zip(kinds, files, strict=True) for word in (f"--{kind}", file)))
    for line, file in zip(capsys.readouterr().out.splitlines(), files, strict=True):
        assert line.startswith(f"{file}: ")
        assert f"on {JETS + 12} jets ({JETS} test jets and random ones): logits differ by" in line
        assert file.stat().st_size > 1e4


def test_compared_jets_are_spread_over_the_file(run):
    say_tested_on(run, ["sample:qg"])
    batches, what = comparison_jets(load(run))
    assert what == f"{JETS} test jets"
    labels = torch.cat([batch.y for batch in batches])
    assert len(labels) == JETS
    assert set(labels.tolist()) == {0, 1}


def test_without_the_test_jets(run):
    say_tested_on(run, ["gone.h5"])
    assert comparison_jets(load(run)) == ([], "no test jets, which are missing,")


class TestMistakes:
    def test_nothing_to_write(self, export, run, capsys):
        with pytest.raises(SystemExit, match="2"):
            export(run)
        assert "nothing to write: give --onnx FILE, --pt2 FILE or both" in capsys.readouterr().err

    def test_no_run(self, export, tmp_path):
        with pytest.raises(SystemExit, match=r"error: .*: lacks model\.json; give the folder of a finished run"):
            export(tmp_path, "--onnx", tmp_path / "tagger.onnx")

    def test_no_weights(self, export, run, tmp_path):
        (run / "model.pt").unlink()
        with pytest.raises(SystemExit, match=r"error: .*model\.pt"):
            export(run, "--onnx", tmp_path / "tagger.onnx")

    @pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
    def test_missing_packages(self, export, run, tmp_path, monkeypatch, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(SystemExit, match=rf"error: writing ONNX needs {package}: pip install 'iagraph\[export\]'"):
            export(run, "--onnx", tmp_path / "tagger.onnx")

    def test_a_folder_instead_of_a_file(self, export, run, tmp_path, monkeypatch):
        monkeypatch.setattr("iagraph.export.of_run.load", lambda _: pytest.fail("said only after loading"))
        for option in ("--onnx", "--pt2"):
            with pytest.raises(SystemExit, match=rf"^error: {tmp_path}: a folder; name a file in it$"):
                export(run, option, tmp_path)

    @pytest.mark.parametrize(("option", "suffix"), [("--onnx", "onnx"), ("--pt2", "pt2")])
    def test_other_files_are_kept(self, export, run, tmp_path, option, suffix):
        (tmp_path / f"tagger.{suffix}").write_text("mine")
        for name, message in ((f"tagger.{suffix}", "already exists; choose"), ("run/model.pt", "the name should end")):
            before = (tmp_path / name).read_bytes()
            with pytest.raises(SystemExit, match=rf"^error: {tmp_path / name}: {message}"):
                export(run, option, tmp_path / name)
            assert (tmp_path / name).read_bytes() == before

    def test_options_of_another_format(self, export, run, tmp_path, capsys):
        for options in (["--opset", 18], ["--float-inputs"]):
            with pytest.raises(SystemExit, match="2"):
                export(run, "--pt2", tmp_path / "tagger.pt2", *options)
            assert "--opset and --float-inputs are for --onnx FILE" in capsys.readouterr().err

    def test_test_jets_without_species(self, export, run, tmp_path):
        write_store(tmp_path / "jets.h5", numbered_jets([2, 3], pid=False))
        say_tested_on(run, [str(tmp_path / "jets.h5")])
        about = json.loads((run / "model.json").read_text())
        if "charge" not in about["node_features"]:
            pytest.skip("this model sees no species")
        with pytest.raises(SystemExit, match=r"^error: .*jets\.h5: these test jets of the run have no pid any more"):
            export(run, "--pt2", tmp_path / "tagger.pt2")

    def test_no_folder(self, export, run, tmp_path):
        with pytest.raises(SystemExit, match=r"error: .*gone: no such folder; make it first"):
            export(run, "--onnx", tmp_path / "gone" / "tagger.onnx")
