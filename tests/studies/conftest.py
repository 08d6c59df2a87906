import shutil

import numpy as np
import pytest
import yaml
from saved_figures import figures
from toy_runs import RECIPE, settings, toy_jets

from iagraph.data import Jets, write_store
from iagraph.studies.compare.config import load_comparison
from iagraph.train.run import train_into

PART = (
    "{name: particle_transformer, width: 6, blocks: 1, heads: 3, class_blocks: 1, particle_hidden: [7], "
    "pair_hidden: [5], dropout: 0.1}"
)
SMALL = ["train.epochs=2", "model.blocks=1", "model.particle_hidden=[11]", "train.device=cpu"]


@pytest.fixture(scope="package", autouse=True)
def _laid_out_figures():
    with figures("laid out"):
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("jets") / "toy.h5"
    write_store(path, toy_jets(500, 1), splits={"train": 300, "val": 80, "test": 120})
    return path


@pytest.fixture
def write(store, tmp_path):
    return lambda **changes: write_comparison(tmp_path, store, **changes)


def write_comparison(folder, store, recipes=None, seeds=(1, 2), overrides=()):
    """Write a comparison of a tiny IAFormer and plain attention, with its recipes, and return its file."""
    for name in ("qg.yaml", "qg_plain.yaml"):
        (folder / name).write_text(RECIPE.with_name(name).read_text())
    recipes = recipes or {"IAFormer": "qg.yaml", "Q & K": "qg_plain.yaml"}
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    lines = ["name: toy", f"seeds: {list(seeds)}", f"output: {folder}/studies", "recipes:"]
    lines += [f"  {name}: {file}" for name, file in recipes.items()]
    lines += ["overrides:", *(f"  - {text}" for text in [*files, *SMALL, *overrides])]
    path = folder / "compare.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def trained(store, tmp_path_factory):
    """Folder of a comparison with its four finished runs, without a table."""
    folder = tmp_path_factory.mktemp("trained")
    for run in load_comparison(write_comparison(folder, store)).runs:
        train_into(run.folder, run.config)
    return folder


@pytest.fixture(scope="session")
def toy_run(store, tmp_path_factory):
    """Folder of a finished run of a small IAFormer with two blocks."""
    folder = tmp_path_factory.mktemp("run") / "toy"
    train_into(folder, settings(store, folder.parent, "model.blocks=2"))
    return folder


def snapshot(folder):
    """Time of the evaluation of each run, by folder."""
    return {path.parent: path.stat().st_mtime_ns for path in folder.glob("*/seed-*/metrics.json")}


@pytest.fixture(scope="session")
def part_run(store, tmp_path_factory):
    """Folder of a finished run of a small ParT with one block, of the same name but in another folder."""
    folder = tmp_path_factory.mktemp("part") / "toy"
    train_into(folder, settings(store, folder.parent, f"model={PART}", "data.pair_features=part", "train.epochs=1"))
    return folder


@pytest.fixture
def empty_run(toy_run, tmp_path):
    """Folder of a finished run whose test jets are all empty."""
    jets = toy_jets(40, 3)
    nothing = {name: column[:0] for name, column in jets.particles.items()}
    write_store(tmp_path / "empty.h5", Jets(nothing, np.zeros(41, np.int64), jets.label, jets.classes))
    file = shutil.copytree(toy_run, tmp_path / "empty") / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["data"]["test"] = [str(tmp_path / "empty.h5")]
    file.write_text(yaml.safe_dump(config))
    return file.parent


@pytest.fixture(scope="session")
def elsewhere_run(tmp_path_factory):
    """Folder of a finished run with other jets."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write_store(folder / "toy.h5", toy_jets(200, 2), splits={"train": 100, "val": 40, "test": 60})
    train_into(folder / "others", settings(folder / "toy.h5", folder, "train.epochs=1"))
    return folder / "others"
