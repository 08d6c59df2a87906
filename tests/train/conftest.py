import pytest
from toy_runs import toy_jets

from iagraph.data import write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "toy.h5"
    write_store(path, toy_jets(500, 1), splits={"train": 300, "val": 80, "test": 120})
    return path
