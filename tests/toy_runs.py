"""Small training runs for tests: two classes of toy jets, a tiny model, a few epochs."""

from pathlib import Path

import numpy as np
import torch

from iagraph.data import Jets
from iagraph.testing import random_jets
from iagraph.train.config import load_config

RECIPE = Path(__file__).parents[1] / "configs" / "qg.yaml"
FILES = {"config.yaml", "model.pt", "model.json", "trained_on.npy", "metrics.json", "report.md", "predictions.npz"}


def toy_jets(number, seed):
    """Two classes that differ by multiplicity, 9 against 13 on average."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, number)
    counts = random.poisson(np.where(label == 1, 9, 13)) + 1
    jets = random_jets(counts.tolist(), seed)
    columns = {name: component.numpy() for name, component in jets.momenta._asdict().items()}
    columns["pid"] = jets.pid.numpy().astype(np.int32)
    return Jets(columns, jets.ptr.numpy(), label, ("gluon", "quark"))


def settings(store, output, *more):
    files = [f"data.{role}={store}" for role in ("train", "val", "test")]
    small = ["model.blocks=1", "model.pair_hidden=[7]", "model.particle_hidden=[11]", "train.epochs=2"]
    return load_config(RECIPE, [*files, *small, "train.device=cpu", f"output={output}", *more])


def weights(run):
    return torch.load(run / "model.pt", weights_only=True)
