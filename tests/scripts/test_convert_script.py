import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data.conftest import numbered_jets
from interrupts import heed_interrupts

from iagraph.data import read_store, write_store

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"


@pytest.fixture
def run(monkeypatch):
    """Run the script in this process, as a new one would take seconds to import everything."""

    def run_script(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run_script


def test_a_file_becomes_a_store_a_summary_and_a_figure(tmp_path, run, capsys):
    write_store(tmp_path / "a.h5", numbered_jets([2, 0, 3]))
    write_store(tmp_path / "b.h5", numbered_jets([4]))
    run(tmp_path / "a.h5", tmp_path / "b.h5", "--out", tmp_path / "out.h5")
    assert len(read_store(tmp_path / "out.h5")) == 4
    printed = capsys.readouterr().out
    assert "out.h5: 4 jets, 9 particles" in printed
    assert "1 jets have no particles" in printed
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    for name in ("out.png", "out.h5"):
        with pytest.raises(SystemExit, match=rf"error: .*{name}: exists already"):
            run(tmp_path / "a.h5", "--out", tmp_path / "out.h5")
        (tmp_path / name).unlink()
        (tmp_path / "out.pdf").unlink(missing_ok=True)


def test_the_store_has_a_name_of_its_own(tmp_path, run, capsys):
    write_store(tmp_path / "a.h5", numbered_jets([2]))
    (tmp_path / "folder.h5").mkdir()
    for name in ("x.png", "store", "folder.h5"):
        with pytest.raises(SystemExit):
            run(tmp_path / "a.h5", "--out", tmp_path / name, "--force")
        assert "should be the name of a file that ends in .h5" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.h5", "text.h5"])
def test_a_wrong_file_is_one_line(tmp_path, run, name):
    (tmp_path / "text.h5").write_text("not a jet\n" * 100)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / name, "--out", tmp_path / "out.h5")
    assert str(stopped.value).startswith(f"error: {tmp_path / name}: ")
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_is_not_taken_for_a_complete_one(tmp_path, sent):
    write_store(tmp_path / "a.h5", numbered_jets(np.full(150_000, 20)))
    command = [sys.executable, SCRIPT, tmp_path / "a.h5", "--out", tmp_path / "out.h5"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    while not list(tmp_path.glob(".out.h5.*.tmp")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sent)
    _, message = process.communicate()
    assert process.returncode != 0
    assert not (tmp_path / "out.h5").exists()
    if sent == signal.SIGINT:
        assert message.endswith("interrupted: nothing was written\n")
        assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]
