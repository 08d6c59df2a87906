"""Test jets of runs, and the time that models take for them, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from iagraph.data import JetDataset, JetSource, StoredJets
from iagraph.jets import JetBatch
from iagraph.studies.runs import read_json
from iagraph.train.config import Config
from iagraph.train.datamodule import check_jets, open_role, read_all
from iagraph.train.evaluation import evenly_spaced
from iagraph.train.folder import Run, RunError

TIMED_JETS = 512
BATCH = 64
ROUNDS = 5


def open_test_jets(config: Config) -> JetSource:
    """The test jets of a run, in memory or in their files as its configuration says.

    Raises:
        StoreError: a file is missing or damaged.
    """
    stores = open_role(config.data.test, "test", config.data)
    if config.data.in_memory:
        return JetDataset(read_all(stores), config.data.max_particles, config.data.masses)
    return StoredJets(stores, config.data.max_particles, config.data.masses)


def open_studied_jets(path: Path, run: Run, number: int) -> JetSource:
    """The test jets of a run, of which so many, evenly spaced, have jets of each class.

    Args:
        path: the folder of the run, for messages.
        run: the run.
        number: how many jets are to be studied.

    Raises:
        RunError: they have none of some class.
        StoreError: a file is missing or damaged, or holds other jets than those that the model is for.
    """
    jets = open_test_jets(run.config)
    check_jets(jets, run.config.data, run.classes, ", ".join(run.config.data.test))
    labels = jets.label[evenly_spaced(len(jets), number)]
    for label, name in enumerate(run.classes):
        if not (labels == label).any():
            raise RunError(
                f"{path}: none of the {len(labels)} jets is of the class '{name}': take more of them (--jets)"
            )
    return jets


def some_batches(jets: JetSource, number: int) -> list[JetBatch]:
    """So many of the jets, or all if there are not so many, evenly spaced, in batches of :data:`BATCH`."""
    places = evenly_spaced(len(jets), number)
    return [jets[places[begin : begin + BATCH]] for begin in range(0, len(places), BATCH)]


def where_measured(runs: Sequence[Path]) -> torch.device:
    """The device on which all of these runs predicted, if it is here, otherwise the CPU."""
    used = {read_json(run / "metrics.json", lambda found: str(found["cost"]["measured_on"]["device"])) for run in runs}
    # Runs may have been brought here from a machine that has more devices.
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    device = used.pop() if len(used) == 1 else "cpu"
    return torch.device(device if here.get(device) else "cpu")


def how_measured(jets: int, device: torch.device) -> str:
    """A note on how :func:`seconds_per_jet` measures."""
    return (
        f"time: side by side, median of {ROUNDS} rounds over {jets} test jets in batches of {BATCH}, float32, "
        f"{device.type}, threads: {torch.get_num_threads()}"
    )


@torch.inference_mode()
def seconds_per_jet(
    models: Mapping[str, nn.Module], batches: Mapping[str, Sequence[JetBatch]], device: torch.device
) -> dict[str, float]:
    """Time of inference per jet, of models that take turns, so that none has the quiet hours of a machine for itself.

    Args:
        models: the models by name; they are set to evaluation.
        batches: the jets of each model, the same for all but for the columns.
        device: where to measure.
    """
    where = {name: [batch.to(device) for batch in mine] for name, mine in batches.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS + 1):  # the first one warms up
        for name, model in models.items():
            model.to(device).eval()
            start = time.perf_counter()
            for batch in where[name]:
                model(batch).cpu()  # a GPU has finished when its results are here
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) / sum(map(len, where[name])) for name, times in seconds.items()}
