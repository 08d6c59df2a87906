import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(script, *arguments):
    command = [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_train_and_evaluate(tmp_path):
    changes = ["data.max_jets=64", "train.epochs=1", "model.blocks=1", "model.pair_hidden=[7]", f"output={tmp_path}"]
    trained = run("train.py", "configs/qg.yaml", *changes)
    assert trained.returncode == 0, trained.stderr
    assert "| multiplicity alone |" in trained.stdout
    assert "AUC above multiplicity" in trained.stdout
    assert f"Results: {tmp_path / 'qg-001'}" in trained.stdout
    again = run("evaluate.py", tmp_path / "qg-001")
    assert again.returncode == 0, again.stderr
    auc = [line.split("|")[3] for line in (trained.stdout + again.stdout).splitlines() if line.startswith("| iaformer")]
    assert len(auc) == 2
    assert auc[0] == auc[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "qg", "model.head=4"], "command line: unknown key 'model.head'; did you mean 'model.heads'?"),
        (["train", "qg", "train.epochs=many"], "command line: 'train.epochs' should "),
        (["train", "configs/nothing.yaml"], "configs/nothing.yaml: no such file"),
        (["train", "qg", "data.test=gone.h5"], "gone.h5: no such file"),
        (["train", "qg", "--into", "new", "data.test=gone.h5"], "gone.h5: no such file"),
        (["recipes", "pretrained:gone"], "pretrained:gone: no such model; there are pretrained:"),
        (["evaluate", "configs"], "configs: lacks config.yaml, model.pt, model.json"),
    ],
)
def test_errors_are_one_line(command, words, message):
    code, _ = command(*words)
    assert code.startswith(f"error: {message}")
    assert "\n" not in code


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_missing_packages_name_the_install_command(command, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "iagraph.train.trainer", None)
    code, _ = command(name, "qg")
    assert (
        code == f"error: iagraph {name} needs iagraph.train.trainer: pip install 'iagraph[train]'; see iagraph doctor"
    )


def test_help_lists_every_key(command):
    text = command("train", "--help")[1].out
    assert "data.node_features: kin | kinpid | full | iaformer, required" in text
    assert "train.precision" in text
