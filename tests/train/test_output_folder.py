"""Names of output folders."""

import pytest
from toy_runs import settings

from iagraph.train.folder import read_history
from iagraph.train.run import resume, train


@pytest.mark.parametrize("averaged", [[], ["train.ema=0.9"]])
def test_a_folder_that_looks_like_a_url(store, tmp_path, averaged):
    run = train(settings(store, tmp_path / "a::b", "train.epochs=1", *averaged))
    assert run == tmp_path / "a::b" / "qg-001"
    resume(run, ["train.epochs=2"])
    assert len(read_history(run)) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"a::b"}
