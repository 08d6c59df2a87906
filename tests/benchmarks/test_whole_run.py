import pytest
from toy_runs import settings, toy_jets

from benchmark.whole_run import benchmark_run
from iagraph.data import write_store
from iagraph.train.config import dump_config


def test_report_covers_the_whole_run(tmp_path):
    write_store(tmp_path / "toy.h5", toy_jets(211, 1), splits={"train": 127, "val": 43, "test": 41})
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(dump_config(settings(tmp_path / "toy.h5", tmp_path / "runs")))
    (row,) = benchmark_run(str(recipe), ["train.epochs=2"]).rows
    assert (row["jets, all epochs"], row["epochs"]) == (127 * 2, 2)
    assert row["jets/s of the run"] == pytest.approx(127 * 2 / row["seconds"])
    assert row["peak memory [MB]"] > 200  # PyTorch alone holds more
    assert 0 <= float(row["AUC"]) <= 1
    assert not (tmp_path / "runs").exists()
