import io
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

from iagraph.data import Jets, read_store, resolve, store_info, write_store

SCRIPT = Path(__file__).parents[2] / "scripts" / "convert.py"


@pytest.fixture
def run(monkeypatch):
    """Run the script in this process, as imports take seconds in a new one."""

    def run_script(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
        runpy.run_path(str(SCRIPT), run_name="__main__")

    return run_script


def test_conversion_writes_store_summary_and_figure(tmp_path, run, capsys, drawn):
    write_store(tmp_path / "a.h5", numbered_jets([2, 0, 3]))
    write_store(tmp_path / "b.h5", numbered_jets([4]))
    run(tmp_path / "a.h5", tmp_path / "b.h5", "--out", tmp_path / "out.h5")
    assert len(read_store(tmp_path / "out.h5")) == 4
    printed = capsys.readouterr().out
    assert "out.h5: 4 jets, 9 particles" in printed
    assert "1 jets have no particles" in printed
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    for name in ("out.png", "out.h5"):
        with pytest.raises(SystemExit, match=rf"error: .*{name}: already exists"):
            run(tmp_path / "a.h5", "--out", tmp_path / "out.h5")
        (tmp_path / name).unlink()
        (tmp_path / "out.pdf").unlink(missing_ok=True)


def test_dots_in_names_and_existing_files_are_kept(tmp_path, run):
    write_store(tmp_path / "a.h5", numbered_jets([2, 3]))
    (tmp_path / "qg_v1.png").write_text("another figure")
    run(tmp_path / "a.h5", "--out", tmp_path / "qg_v1.2.h5")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.h5",
        "qg_v1.png",
        "qg_v1.2.h5",
        "qg_v1.2.png",
        "qg_v1.2.pdf",
    }
    assert (tmp_path / "qg_v1.png").read_text() == "another figure"
    (tmp_path / "qg_v1.2.h5").unlink()
    for name in ("qg_v1.2.png", "qg_v1.2.pdf"):
        (tmp_path / name).write_text("kept")
        with pytest.raises(SystemExit, match=rf"error: .*{name}: already exists"):
            run(tmp_path / "a.h5", "--out", tmp_path / "qg_v1.2.h5")
        assert (tmp_path / name).read_text() == "kept"
        (tmp_path / name).unlink()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8"])
def test_any_encoding_of_the_output(tmp_path, run, monkeypatch, encoding):
    jets = numbered_jets([2, 3])
    jets.particles["pid"][:] = 22
    write_store(tmp_path / "a.h5", jets)
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
    run(tmp_path / "a.h5", "--out", tmp_path / "out.h5")
    sys.stdout.flush()
    assert ("γ 100.0%" if encoding == "utf-8" else r"\u03b3 100.0%") in printed.getvalue().decode(encoding)
    assert (tmp_path / "out.png").is_file()


def test_patterns_and_home_folders(tmp_path, run, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in (2, 10, 1):
        write_store(tmp_path / f"part_{number}.h5", numbered_jets([number]))
    run("~/part_*.h5", "--out=~/out.h5")
    assert read_store(tmp_path / "out.h5").counts.tolist() == [1, 2, 10]
    with pytest.raises(SystemExit, match=r"^error: ~/no_\*\.h5: no file matches this pattern"):
        run("~/no_*.h5", "--out=~/none.h5")


def test_the_sample_with_its_splits(tmp_path, run):
    run("sample:qg", "--out", tmp_path / "out.h5")
    found, expected = store_info(tmp_path / "out.h5"), store_info(resolve("sample:qg"))
    assert (found.jets, found.particles, found.splits) == (expected.jets, expected.particles, expected.splits)
    with pytest.raises(SystemExit, match=r"^error: sample:top: no such sample; available: sample:qg$"):
        run("sample:top", "--out", tmp_path / "none.h5")


def test_classes_are_chosen_and_merged(tmp_path, run):
    jets = numbered_jets([1, 2, 3, 4, 5, 6])
    jets = Jets(jets.particles, jets.offsets, np.arange(6) % 3, ("QCD", "W", "top"))
    write_store(tmp_path / "a.h5", jets)
    run(tmp_path / "a.h5", "--out", tmp_path / "two.h5", "--classes", "QCD,top")
    two = read_store(tmp_path / "two.h5")
    assert (two.classes, two.counts.tolist()) == (("QCD", "top"), [1, 3, 4, 6])
    run(tmp_path / "a.h5", "--out", tmp_path / "m.h5", "--classes", "top", "--classes", "background=QCD,W")
    merged = read_store(tmp_path / "m.h5")
    assert (merged.classes, merged.label.tolist()) == (("top", "background"), [1, 1, 0, 1, 1, 0])
    with pytest.raises(SystemExit, match=r"^error: .*a\.h5: no class Tbqq; available: QCD, W, top$"):
        run(tmp_path / "a.h5", "--out", tmp_path / "x.h5", "--classes", "QCD,Tbqq")


def test_a_map_of_branches(tmp_path, run):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"PT": [[5.0, 2.0], [7.0]], "Eta": [[0.1, 0.2], [-0.3]], "Phi": [[0.0, 3.0], [1.0]], "is_top": [1, 0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    (tmp_path / "map.yaml").write_text(
        "particles: {pt: PT, eta: Eta, phi: Phi}\nlabel: {branch: is_top, classes: {0: QCD, 1: top}}\n"
    )
    run(tmp_path / "a.parquet", "--out", tmp_path / "out.h5", "--map", tmp_path / "map.yaml")
    jets = read_store(tmp_path / "out.h5")
    assert (jets.classes, jets.label.tolist(), jets.counts.tolist()) == (("QCD", "top"), [1, 0], [2, 1])
    (tmp_path / "map.yaml").write_text("particles: {pt: PT}\none_hot: {top: is_top}\n")
    with pytest.raises(SystemExit, match=r"^error: .*map\.yaml: 'particles' should have px, py, pz and energy; or"):
        run(tmp_path / "a.parquet", "--out", tmp_path / "x.h5", "--map", tmp_path / "map.yaml")
    assert not (tmp_path / "x.h5").exists()


def test_output_name_must_be_a_store(tmp_path, run, capsys):
    write_store(tmp_path / "a.h5", numbered_jets([2]))
    (tmp_path / "folder.h5").mkdir()
    for name in ("x.png", "store", "folder.h5"):
        with pytest.raises(SystemExit):
            run(tmp_path / "a.h5", "--out", tmp_path / name, "--force")
        assert "should be the name of a file that ends in .h5" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["absent.h5", "text.h5"])
def test_errors_are_one_line(tmp_path, run, name):
    (tmp_path / "text.h5").write_text("not a jet\n" * 100)
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / name, "--out", tmp_path / "out.h5")
    assert str(stopped.value).startswith(f"error: {tmp_path / name}: ")
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_conversion_leaves_nothing(tmp_path, sent):
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
