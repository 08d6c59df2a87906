from pathlib import Path

import pytest

from iagraph.studies.side_by_side import labels
from iagraph.train.folder import RunError


def test_runs_of_one_name_are_told_apart():
    paths = [Path(path) for path in ("/a/small/seed-1", "/a/large/seed-1", "/a/other")]
    assert labels(paths) == ["small/seed-1", "large/seed-1", "other"]


def test_a_run_is_given_once():
    with pytest.raises(RunError, match=r"seed-1: this run is given twice"):
        labels([Path("/a/seed-1"), Path("/b"), Path("/a/../a/seed-1")])
