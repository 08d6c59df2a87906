"""Small training runs for tests: toy jets of some classes, a tiny model, a few epochs."""

from pathlib import Path

import numpy as np
import torch

from iagraph.data import Jets
from iagraph.kinematics import Impact
from iagraph.testing import random_jets
from iagraph.train.config import load_config

RECIPE = Path(__file__).parents[2] / "configs" / "qg.yaml"
CLASSES = ("gluon", "quark", "Z", "W", "top", "Hbb", "Hcc", "Hgg", "H4q", "Hqql")
MULTIPLICITY = np.array([13, 9, 19, 6, 26, 4, 35, 3, 45, 2])
FILES = {"config.yaml", "model.pt", "model.json", "trained_on.npy", "metrics.json", "report.md", "predictions.npz"}


def toy_jets(number, seed, classes=2):
    """Classes that differ by multiplicity, the first two 13 against 9 on average; with impact parameters."""
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, number)
    counts = random.poisson(MULTIPLICITY[label]) + 1
    jets = random_jets(counts.tolist(), seed)
    columns = {name: component.numpy() for name, component in jets.momenta._asdict().items()}
    columns["pid"] = jets.pid.numpy().astype(np.int32)
    for name in Impact._fields:
        columns[name] = random.exponential(0.4, counts.sum()).astype(np.float32)
    return Jets(columns, jets.ptr.numpy(), label, CLASSES[:classes])


def settings(store, output, *more):
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    small = ["model.blocks=1", "model.pair_hidden=[7]", "model.particle_hidden=[11]", "train.epochs=2"]
    return load_config(RECIPE, [*files, *small, "train.device=cpu", f"output={output}", *more])


def weights(run):
    return torch.load(run / "model.pt", weights_only=True)
