import builtins
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupts import heed_interrupts
from studies.conftest import snapshot, write_comparison
from toy_runs import settings, toy_jets

from iagraph.data import write_store
from iagraph.studies.compare.config import load_comparison
from iagraph.studies.compare.study import compare
from iagraph.studies.curve.config import load_curve
from iagraph.train.evaluate import evaluate
from iagraph.train.run import train_into

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "study.py"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["scripts/study.py", *map(str, arguments)])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as stopped:
        return stopped.code
    return 0


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def study(tmp_path):
    write_store(tmp_path / "toy.h5", toy_jets(500, 1), splits={"train": 300, "val": 80, "test": 120})
    return write_comparison(tmp_path, tmp_path / "toy.h5", {"IAFormer": "qg.yaml"})


def test_prints_the_table_of_finished_runs(study, monkeypatch, capsys):
    _, planned = load_comparison(study).runs
    train_into(planned.folder, planned.config)
    # Overrides may also follow the options.
    assert run(
        monkeypatch, "compare", study, "--jobs", 2, "recipes={plain model: qg.yaml, IAFormer: qg.yaml}", "x=1"
    ) == ("error: command line: unknown key 'x'; valid keys: name, seeds, recipes, reference, overrides, output")
    assert run(monkeypatch, "compare", study, "--jobs", 2, "seeds=[2]") == 0
    printed = capsys.readouterr().out
    assert "IAFormer, seed 2: AUC " in printed
    assert "IAFormer, seed 1" not in printed
    assert "| IAFormer | " in printed
    assert f"`iagraph study compare {study} --jobs 2 'seeds=[2]'`" in printed
    assert f"Results: {study.parent / 'studies' / 'toy'}" in printed


@pytest.mark.parametrize("study", ["compare", "curve"])
def test_help_explains_all_keys(monkeypatch, capsys, study):
    assert run(monkeypatch, study, "--help") == 0
    printed = capsys.readouterr().out
    assert ("extrapolate: int >= 1, required" in printed) == (study == "curve")
    assert "seeds: list of int" in printed
    assert "relative to the folder of this file, or names of packaged recipes" in " ".join(printed.split())
    assert "--jobs N" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "argument --jobs: should be 1 or more, found 0"),
        (["--jobs", "two"], "argument --jobs: should be 1 or more, found two"),
        (["--job-s"], "unrecognized arguments: --job-s"),
    ],
)
def test_impossible_arguments_are_refused(monkeypatch, capsys, study, arguments, message):
    assert run(monkeypatch, "compare", study, *arguments) == 2
    assert message in capsys.readouterr().err


def test_interruption_during_imports(monkeypatch, study, capsys):
    def interrupt(name, *more):
        if name == "iagraph.studies.compare.study":
            raise KeyboardInterrupt
        return original(name, *more)

    original = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", interrupt)
    assert run(monkeypatch, "compare", study) == 130
    assert capsys.readouterr().err.startswith("interrupted: finished runs are kept")


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prune")
    write_store(folder / "toy.h5", toy_jets(300, 1), splits={"train": 160, "val": 60, "test": 80})
    train_into(folder / "run", settings(folder / "toy.h5", folder, "train.epochs=1"))
    return folder / "run"


def test_prunes_a_run_and_prints_the_table(toy_run, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "prune", toy_run, "--rules", "top_k=2,1", "--per-head", "--jets", 60) == 0
    printed = capsys.readouterr().out
    folder = Path("studies") / "prune-run"
    assert (folder / "table.md").read_text() in printed
    assert "| top_k=1 | " in printed
    assert "for each head, after the softmax" in printed
    assert f"`iagraph study prune {toy_run} --rules top_k=2,1 --per-head --jets 60`" in printed
    assert f"Results: {folder}" in printed


def test_help_explains_pruning(monkeypatch, capsys):
    assert run(monkeypatch, "prune", "--help") == 0
    printed = capsys.readouterr().out
    options = ("--rules RULE=N", "--per-head", "--renormalize", "--survivors", "--jets N", "--retrain EPOCHS", "--out")
    assert all(option in printed for option in options)
    assert "threshold=0.003,0.01,0.03,0.1\n" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules", "best=3"], "error: command line: 'best=3': unknown pruning rule 'best'; there are threshold, "),
        (["--survivors", "top_k=3,4"], "error: command line: 'top_k=3,4' should be one rule with one number, as in "),
        (["--out", "run/config.yaml/x"], "error: run/config.yaml/x: cannot make this folder (Not a directory)"),
        (["--out", "run"], "error: run/checkpoints: not of an earlier study, and nothing else is overwritten"),
        (["--out", "toy.h5"], "error: toy.h5: not of an earlier study, and nothing else is overwritten"),
        (["--jets", "1"], "error: run: none of the 1 jets is of the class "),
    ],
)
def test_pruning_errors_are_one_line(toy_run, monkeypatch, arguments, message):
    monkeypatch.chdir(toy_run.parent)
    found = run(monkeypatch, "prune", "run", *arguments)
    assert found.startswith(message)
    assert "\n" not in found
    assert not Path("studies").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--retrain", "2"], "--retrain trains with each of the rules: name them with --rules"),
        (["--retrain", "0", "--rules", "top_k=2"], "argument --retrain: should be 1 or more, found 0"),
        (["model.blocks=2"], "unrecognized arguments: model.blocks=2"),
    ],
)
def test_impossible_arguments_of_pruning_are_refused(monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, "prune", "run", *arguments) == 2
    assert message in capsys.readouterr().err


def test_shipped_comparison_is_valid():
    comparison = load_comparison(ROOT / "configs" / "compare_qg.yaml")
    assert len({config.model.name for config in comparison.recipes.values()}) == 7
    assert len(comparison.runs) == 21


def test_shipped_learning_curve_is_valid():
    plan = load_curve(ROOT / "configs" / "curve_qg.yaml")
    recipes = [config for part in plan.parts for config in part.recipes.values()]
    assert len(recipes) == 15
    assert {(config.data.node_features, config.data.masses, config.train.epochs) for config in recipes} == {
        ("kin", "zero", 12)
    }


@pytest.mark.skipif(os.name != "posix", reason="sends signals to other processes")
def test_interrupted_and_killed_comparison_can_be_resumed(study):
    # Long enough to be interrupted even on a busy machine.
    study.write_text(study.read_text().replace("train.epochs=2", "train.epochs=15\n  - train.patience=15"))
    comparison = load_comparison(study)
    first, second = comparison.runs
    train_into(first.folder, first.config)
    before = snapshot(comparison.folder)
    unfinished = second.folder.with_name("seed-2.unfinished")
    log = study.with_name("log")
    for sent in (signal.SIGINT, signal.SIGKILL):
        shutil.rmtree(unfinished, ignore_errors=True)  # so that its return is seen
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, SCRIPT, "compare", study],
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )
        while not unfinished.exists():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        process.send_signal(sent)  # to the main process only: it must end the others itself
        assert process.wait(timeout=20) == (130 if sent == signal.SIGINT else -sent)
        deadline = time.monotonic() + 10
        while group_exists(process.pid):
            assert time.monotonic() < deadline, "a run outlived its study"
            time.sleep(0.05)
        assert "Traceback" not in log.read_text()
        assert ("interrupted: finished runs are kept" in log.read_text()) == (sent == signal.SIGINT)
        assert unfinished.is_dir()
        assert snapshot(comparison.folder) == before
        assert not list(comparison.folder.glob("table*"))
    folder = compare(comparison)
    assert not unfinished.exists()
    after = snapshot(folder)
    assert after.keys() == {first.folder, second.folder}
    assert after[first.folder] == before[first.folder]
    evaluate(second.folder)
    assert (folder / "table.md").is_file()
