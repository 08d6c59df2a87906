"""Training of recipes on the device: speed and accuracy."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning import Callback

from benchmark.gpu_phases.results import Plan, Results
from iagraph.train.config import load_config
from iagraph.train.run import train

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
RECIPES = (
    ("qg_lite.yaml", None, 20),
    ("qg.yaml", None, 15),
    ("qg_gpu.yaml", 512, 40),
    ("qg_lite.yaml", 64, 60),
    ("qg.yaml", 64, 40),
)
"""Recipe, jets per batch (None: as planned), and the seconds below which it is trained for only one epoch."""


class Watch(Callback):
    """Record the time of each epoch, validation included."""

    def __init__(self) -> None:
        self.begun: list[float] = []

    def on_train_epoch_start(self, *_: Any) -> None:
        """Called by Lightning."""
        self.begun.append(time.perf_counter())

    def on_train_end(self, *_: Any) -> None:
        """Called by Lightning."""
        self.begun.append(time.perf_counter())

    def seconds_per_epoch(self) -> list[float]:
        """The time of each epoch."""
        return [later - begin for begin, later in zip(self.begun, self.begun[1:], strict=False)]


def training(plan: Plan, results: Results) -> None:
    """A row for each recipe."""
    results.notes.append("first epoch, median epoch, all: in seconds; all: reading data, training, test and figures")
    for recipe, own_size, needed in RECIPES:
        batch_size = plan.batch_sizes[0] if own_size is None else own_size
        with results.attempt(recipe=recipe, batch=batch_size), tempfile.TemporaryDirectory() as folder:
            changes = [f"data.batch_size={batch_size}", f"train.device={plan.device.type}"]
            if plan.seconds_left() < needed:
                changes.append("train.epochs=1")
            results.add(recipe=recipe, batch=batch_size, **_trained(CONFIGS / recipe, changes, Path(folder)))


def _trained(recipe: Path, changes: list[str], folder: Path) -> dict[str, Any]:
    """Train a recipe; returns its results."""
    watch, start = Watch(), time.perf_counter()
    run = train(load_config(recipe, changes), callbacks=[watch], into=folder / "run")
    seconds, epochs = time.perf_counter() - start, watch.seconds_per_epoch()
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {
        "epochs": len(epochs),
        "first epoch": epochs[0],
        "median epoch": sorted(epochs)[len(epochs) // 2],
        "all": seconds,
        "AUC": metrics["tagger"]["auc"]["value"],
        "its error": metrics["tagger"]["auc"]["error"],
        "AUC of multiplicity": metrics["multiplicity"]["auc"]["value"],
        "test jets/s": metrics["cost"]["jets_per_second"],
    }
