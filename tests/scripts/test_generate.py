import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupts import heed_interrupts

from iagraph.data import store_info

ROOT = Path(__file__).parents[2]
SCRIPT, RECIPE = ROOT / "scripts" / "generate.py", ROOT / "configs" / "generate_qg.yaml"


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return stopped.value.code


def group_exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("missing", ["pythia8mc", "fastjet", "awkward"])
def test_missing_packages_name_the_install_command(tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    for name in ("generator", "recipe", "selection"):
        monkeypatch.delitem(sys.modules, f"iagraph.data.{name}", raising=False)
    code = run(monkeypatch, RECIPE, "--jets", 4, "--out", tmp_path / "jets.h5")
    assert code == f"error: generating jets needs {missing}: pip install 'iagraph[generate]'"


@pytest.mark.parametrize(
    "arguments",
    [["--jets", "0"], ["--jets", "two"], ["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "2"], ["--workers", "0"]],
)
def test_impossible_arguments_are_refused(tmp_path, monkeypatch, capsys, arguments):
    assert run(monkeypatch, RECIPE, "--jets", 4, "--out", tmp_path / "jets.h5", *arguments) == 2
    assert f"argument {arguments[0]}: should be " in capsys.readouterr().err


def test_errors_are_one_line_without_traceback(tmp_path, monkeypatch):
    pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
    out = tmp_path / "jets.h5"
    assert "'seed' should " in run(monkeypatch, RECIPE, "--jets", 4, "--out", out, "seed=-1")
    assert "shard 3/3 of 4 jets is empty" in run(monkeypatch, RECIPE, "--jets", 4, "--out", out, "--shard", "3/3")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.read_text().replace("gmZmode = 2", "gmzmode = two"))
    code = run(monkeypatch, recipe, "--jets", 4, "--out", out)
    told = "error: process gluon: Pythia does not know 'WeakZ0:gmzmode = two'; correct the configuration. Its output:"
    assert code.startswith(told)
    out.write_text("old")
    assert "already exists" in run(monkeypatch, RECIPE, "--jets", 4, "--out", out)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["jets.h5", "recipe.yaml"]


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to another process")
@pytest.mark.parametrize(
    "sent",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_interrupted_generation_leaves_nothing(tmp_path, sent):
    pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
    out, log = tmp_path / "jets.h5", tmp_path / "log"
    command = [sys.executable, SCRIPT, RECIPE, "--jets", "100000", "--out", out, "--workers", "2"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stderr=stream, start_new_session=True, preexec_fn=heed_interrupts)
    while "jet/s" not in log.read_text():  # the progress bar appears as the workers start
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(sent)  # to the main process only: it must end its workers itself, or they themselves
    assert process.wait(timeout=20) == (-9 if sent == signal.SIGKILL else 130)
    assert "Traceback" not in log.read_text()
    if sent != signal.SIGKILL:
        assert f"interrupted: {out} was not written; no task had finished" in log.read_text()
        assert list(tmp_path.iterdir()) == [log]
    deadline = time.monotonic() + (120 if sent == signal.SIGKILL else 10)  # Pythia is not interrupted by Python
    while group_exists(process.pid):
        assert time.monotonic() < deadline, "a worker outlived the interrupted run"
        time.sleep(0.1)


def test_generated_file_is_reported(tmp_path):
    pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
    out = tmp_path / "jets.h5"
    # Overrides may also follow the options.
    arguments = [sys.executable, SCRIPT, RECIPE, "--jets", "5", "--out", out, "seed=7", "jet.pt_max=900.0"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 5 jets of gluon and quark (3 train, 0 val, 2 test), ")
    assert store_info(out).provenance["config"]["seed"] == 7
