"""The trained models that come with the package."""

import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch

import iagraph
from iagraph import cli
from iagraph.data import JetDataset, read_store, resolve, write_store
from iagraph.files import PRETRAINED, run_path
from iagraph.models.registry import make_model
from iagraph.train.config import load_config
from iagraph.train.evaluate import evaluate
from iagraph.train.fine_tuning import load_initial_weights
from iagraph.train.origin import seen_before

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.name for path in PRETRAINED.iterdir())
LOGITS = ROOT / "tests" / "models" / "pretrained"
FILES = {"README.md", "config.yaml", "metrics.json", "model.json", "model.pt", "trained_on.npy"}
UNKNOWN = "pretrained:gq: no such model; there are pretrained:jetclass-like, pretrained:jetclass-like-lite, "
UNKNOWN += "pretrained:qg, pretrained:qg-50k, pretrained:qg-50k-lite, pretrained:qg-kin, pretrained:qg-kin-lite, "
UNKNOWN += "pretrained:qg-lite, pretrained:qg-tiny, pretrained:top-like, pretrained:top-like-lite"


@pytest.fixture
def command(monkeypatch, tmp_path):
    def run(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["iagraph", *map(str, words)])
        cli.main()

    return run


@pytest.fixture(scope="module")
def jets():
    """The jets whose logits are recorded, but for a model that needs impact parameters."""
    return read_store(resolve("sample:qg"), "test").part(0, 64)


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_recorded(name, jets):
    model = iagraph.load(f"pretrained:{name}")
    own = LOGITS / f"{name.removesuffix('-lite')}.h5"  # of its first test jets, where the sample's do not suffice
    with torch.inference_mode():
        logits = model(JetDataset(read_store(own) if own.exists() else jets)[:])
    torch.testing.assert_close(logits, torch.from_numpy(np.load(LOGITS / f"{name}.npy")), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_complete_and_small(name):
    files = list((PRETRAINED / name).iterdir())
    assert {path.name for path in files} == FILES
    assert sum(path.stat().st_size for path in files) < 1e6
    assert (PRETRAINED / name / "README.md").read_text(encoding="utf-8").startswith(f"# {name}: ")


def test_works_from_installed_files(tmp_path):
    tomllib = pytest.importorskip("tomllib", reason="Python has it since 3.11")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    package = ROOT / "iagraph"
    for path in (path for path in package.rglob("*") if path.is_file()):
        inside = path.relative_to(package).as_posix()
        if path.suffix == ".py" or any(fnmatch(inside, each) for each in settings["package-data"]["iagraph"]):
            (tmp_path / "iagraph" / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "iagraph" / inside)
    code = "import iagraph; print(iagraph.__file__, iagraph.load('pretrained:qg').classes)"
    found = subprocess.run(  # which finds the package in its working folder
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert found.stdout.strip() == f"{tmp_path / 'iagraph' / '__init__.py'} ('gluon', 'quark')"


def test_predict(command, jets, tmp_path, capsys):
    write_store(tmp_path / "jets.h5", jets)
    command("predict", "pretrained:qg-lite", "jets.h5", "--out", "scores.csv", "--device", "cpu")
    assert "scores of 64 jets, classes gluon, quark" in capsys.readouterr().out
    assert (tmp_path / "scores.csv").read_text().count("\n") == 65


def test_evaluation_is_written_outside_of_the_package(jets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store("jets.h5", jets)
    before = set(PRETRAINED.rglob("*"))
    folder = evaluate("pretrained:qg-lite", "jets.h5", "cpu")
    assert folder.parent == Path("runs/pretrained-qg-lite")
    assert (folder / "report.md").is_file()
    assert set(PRETRAINED.rglob("*")) == before


def test_fine_tuning_starts_from_the_weights_and_knows_their_jets():
    config = load_config("qg", ["fine_tune.weights=pretrained:qg", "fine_tune.new_head=false"])
    trained = iagraph.load("pretrained:qg")
    model = make_model(**trained.description["model"])
    load_initial_weights(model, config, trained.classes)
    torch.testing.assert_close(model.state_dict(), trained.model.state_dict(), rtol=0, atol=0)
    digests, _ = seen_before(config)
    known = read_store(resolve("sample:qg"), "train").digests()
    assert set(digests) == set(known)


def test_recipes_lists_models_and_shows_their_cards(command, capsys):
    command("recipes")
    assert "\npretrained:qg-lite " in capsys.readouterr().out
    command("recipes", "pretrained:qg")
    assert capsys.readouterr().out == (PRETRAINED / "qg" / "README.md").read_text(encoding="utf-8")


def test_unknown_names(command, capsys):
    with pytest.raises(FileNotFoundError, match=f"^{UNKNOWN}$"):
        iagraph.load("pretrained:gq")
    with pytest.raises(SystemExit, match=f"^error: {UNKNOWN}$"):
        command("predict", "pretrained:gq", "jets.h5", "--out", "scores.csv")
    with pytest.raises(SystemExit, match=f"^error: {UNKNOWN}$"):
        command("evaluate", "pretrained:gq")
    with pytest.raises(SystemExit, match="2"):
        command("study", "prune", "pretrained:gq")
    assert f"argument RUN: {UNKNOWN}\n" in capsys.readouterr().err
    assert run_path("runs/qg-001") == Path("runs/qg-001")
