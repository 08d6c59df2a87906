import pytest
from toy_runs import settings, toy_jets

from iagraph.data import write_store
from iagraph.train.run import train_into

PART = (
    "{name: particle_transformer, width: 6, blocks: 1, heads: 3, class_blocks: 1, particle_hidden: [7], "
    "pair_hidden: [5], dropout: 0.1}"
)


@pytest.fixture(scope="session")
def part_run(store, tmp_path_factory):
    """Folder of a finished run of a small ParT with one block, called as the other one but in another folder."""
    folder = tmp_path_factory.mktemp("part") / "toy"
    train_into(folder, settings(store, folder.parent, f"model={PART}", "data.pair_features=part", "train.epochs=1"))
    return folder


@pytest.fixture(scope="session")
def elsewhere_run(tmp_path_factory):
    """Folder of a finished run with other jets."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_store(folder / "toy.h5", toy_jets(200, 2), splits={"train": 100, "val": 40, "test": 60})
    train_into(folder / "others", settings(folder / "toy.h5", folder, "train.epochs=1"))
    return folder / "others"
