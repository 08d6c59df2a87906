import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from data.conftest import numbered_jets

from iagraph.data import resolve, write_store

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def run(monkeypatch):
    def run_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")

    return run_script


class TestCompare:
    def test_table_and_figure(self, tmp_path, run, capsys):
        for name, count in (("a", 3), ("b", 5)):
            write_store(tmp_path / f"{name}.h5", numbered_jets([count] * 20))
        run("compare.py", tmp_path / "a.h5", tmp_path / "b.h5", "--out", tmp_path / "figures" / "ab_v1.2")
        assert "| gluon | multiplicity | 3.00 +- 0.00 | 5.00 +- 0.00 | 1.000 |" in capsys.readouterr().out
        assert {path.name for path in (tmp_path / "figures").iterdir()} == {"ab_v1.2.png", "ab_v1.2.pdf"}

    def test_the_sample_equals_its_file(self, run, capsys):
        run("compare.py", "sample:qg", resolve("sample:qg"))
        rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " +- " in line]
        assert rows
        assert all(row[2] == row[3] for row in rows)

    def test_errors_are_one_line(self, tmp_path, run, capsys):
        write_store(tmp_path / "a.h5", numbered_jets([3]))
        with pytest.raises(SystemExit, match=r"^error: .*absent\.h5: no such file[^\n]*$"):
            run("compare.py", tmp_path / "a.h5", tmp_path / "absent.h5")
        with pytest.raises(SystemExit):
            run("compare.py", tmp_path / "a.h5", tmp_path / "a.h5")
        assert "is given twice" in capsys.readouterr().err


class TestDownload:
    def test_existing_data_are_not_downloaded(self, tmp_path, run, capsys):
        (tmp_path / "processed").mkdir()
        jets = numbered_jets(np.arange(1, 8))
        write_store(tmp_path / "processed" / "top_tagging.h5", jets, splits={"train": 4, "val": 1, "test": 2})
        run("download.py", "top", tmp_path)
        printed = capsys.readouterr().out
        assert "val: 1 jets in " in printed
        assert "# Top quark tagging reference data" in printed

    def test_errors_are_one_line(self, tmp_path, run):
        (tmp_path / "raw").write_text("a file where a folder should be")
        with pytest.raises(SystemExit, match=r"^error: [^\n]*$"):
            run("download.py", "top", tmp_path)


def test_benchmark_prints_and_writes(tmp_path, run, capsys, monkeypatch):
    from benchmark.measure import Report

    report = Report("Title", [{"name": "a", "jets/s": 2.0}])
    asked = []
    monkeypatch.setattr("benchmark.loader.benchmark_loader", lambda *given: asked.append(given) or report)
    run("benchmark.py", "--json", tmp_path / "numbers.json", "loader", "--jets", 7)
    assert asked == [(7, 256, 3)]
    assert "| a | 2 |" in capsys.readouterr().out
    assert json.loads((tmp_path / "numbers.json").read_text())["rows"] == [{"name": "a", "jets/s": 2.0}]
