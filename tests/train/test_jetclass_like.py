"""Ten classes of jets, from Pythia through the detector to a trained model, tiny."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pythia8mc", reason="generating jets needs pip install 'iagraph[generate]'")
pytest.importorskip("fastjet", reason="generating jets needs pip install 'iagraph[generate]'")

from iagraph.data import Jets, generator, write_store
from iagraph.data.detector import MASS
from iagraph.data.generator import plan, run_task
from iagraph.data.readers.jetclass import CLASSES, IMPACT
from iagraph.data.recipe import GenerateConfig
from iagraph.train.config import load_config
from iagraph.train.run import train
from iagraph.yaml_config import load_model

CONFIGS = Path(__file__).parents[2] / "configs"
EACH = 3


@pytest.fixture(scope="module")
def made():
    """Three jets of each class, and the first class once more."""
    config = load_model(GenerateConfig, CONFIGS / "generate_jetclass.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generator, "BATCH_EVENTS", 10)
        first, *others = plan(len(CLASSES), EACH * len(CLASSES), seed=1)
        jets = [run_task(task, config).jets for task in (first, first, *others)]
    return Jets.concatenate(jets[1:]), jets[0]


def test_jets_follow_the_recipe(made):
    jets, _ = made
    assert jets.classes == CLASSES
    assert np.bincount(jets.label).tolist() == [EACH] * len(CLASSES)
    columns = [jets.particles[name].astype(float) for name in ("pt", "rapidity", "phi", "mass")]
    px, py, pz, _ = (np.add.reduceat(part, jets.offsets[:-1]) for part in _cartesian(*columns))
    assert ((np.hypot(px, py) > 499.9) & (np.hypot(px, py) < 1000.1)).all()
    assert (np.abs(np.arcsinh(pz / np.hypot(px, py))) < 2.0002).all()


def _cartesian(pt, rapidity, phi, mass):
    transverse = np.hypot(pt, mass)
    return pt * np.cos(phi), pt * np.sin(phi), transverse * np.sinh(rapidity), transverse * np.cosh(rapidity)


def test_only_tracks_have_masses_and_impact_parameters(made):
    jets, _ = made
    species, mass = np.abs(jets.particles["pid"]), jets.particles["mass"]
    neutral = np.isin(species, (22, 130))
    assert set(species[~neutral]) <= {11, 13, 211}
    assert not mass[neutral].any()
    assert set(mass[~neutral].tolist()) <= {float(np.float32(value)) for value in MASS.values()}
    assert list(jets.particles)[3:7] == list(IMPACT)
    for name in IMPACT:
        assert not jets.particles[name][neutral].any()
        assert jets.particles[name][~neutral].all()
    for name in ("d0_error", "dz_error"):
        assert (jets.particles[name][~neutral] > 0).all()
    significance = np.abs(jets.particles["d0"] / np.where(neutral, 1, jets.particles["d0_error"]))[~neutral]
    assert 0.4 < np.median(significance) < 1.5  # 0.67 for tracks from the collision


def test_jets_depend_only_on_the_seed(made):
    jets, again = made
    same = jets.take(range(EACH))
    assert all(np.array_equal(same.particles[name], again.particles[name]) for name in same.particles)


def test_recipe_trains_on_them(made, tmp_path):
    jets, _ = made
    jets = jets.take(np.arange(len(jets)).reshape(-1, EACH).T.ravel())  # every class in each split
    splits = dict.fromkeys(("train", "val", "test"), len(CLASSES))
    store = tmp_path / "jets.h5"
    write_store(store, jets, splits=splits)
    files = [f"data.{role}={store}" for role in splits]
    small = ["model.blocks=1", "model.pair_hidden=[7]", "train.epochs=1", "train.device=cpu", f"output={tmp_path}"]
    run = train(load_config(CONFIGS / "jetclass_like.yaml", [*files, *small]))
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"rejection_at_0.99/Hqql", "rejection_at_0.995/Tbl"} <= set(metrics["tagger"])
