import json

import numpy as np
import pytest
from data.conftest import numbered_jets

from benchmark import convert, loader
from benchmark.measure import Report, in_new_process


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    jets = numbered_jets(np.random.default_rng(0).integers(1, 9, 40))
    jets.particles["pt"][:] += 1
    jets.particles["pid"][:] = np.resize([22, 211, -211, 130, 11, -13, 2212], len(jets.particles["pid"]))
    for module in (convert, loader):
        monkeypatch.setattr(module, "read_store", lambda path: jets)


def test_loaders_are_measured_on_the_same_jets(monkeypatch):
    monkeypatch.setattr(loader, "in_new_process", lambda function, *arguments: (function(*arguments), 1.0))
    rows = loader.benchmark_loader(jets=100, batch_size=16, repeats=1).rows
    assert [row["loader"].split(",")[0] for row in rows] == ["PyG"] * 4 + ["iagraph"] * 5
    assert [row["jets"] for row in rows] == [40] * 6 + [100] * 3
    assert all(row["jets/s"] > 0 for row in rows)


def test_readers_accept_every_written_format(monkeypatch):
    monkeypatch.setattr(convert, "in_new_process", lambda function, *arguments: (function(*arguments), 1.0))
    rows = convert.benchmark_convert(100).rows
    assert [row["jets"] for row in rows] == [25, 100] * 3
    assert all(row["store [MB]"] > 0 for row in rows)


def _hold(megabytes):
    return len(bytearray(megabytes * 1_000_000))


def test_peak_memory_excludes_the_parent_process():
    held = bytearray(1_500_000_000)  # of this process, which the new one must not inherit
    size, peak = in_new_process(_hold, 300)
    assert len(held) == 5 * size
    assert 300 < peak < 1500


def test_report_names_the_machine(tmp_path):
    report = Report("Title", [{"name": "a", "jets": 12345, "jets/s": 0.1234}], ["a note"])
    assert "| a | 12,345 | 0.123 |" in report.markdown()
    assert "- a note" in report.markdown()
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["rows"] == report.rows
    assert content["machine"]["cores"] >= 1
