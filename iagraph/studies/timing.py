"""Inference times of models on the same jets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from iagraph.jets import JetBatch
from iagraph.studies.runs import BATCH

TIMED_JETS = 512
ROUNDS = 5


def how_measured(jets: int, device: torch.device) -> str:
    """A note on how :func:`seconds_per_jet` measures."""
    return (
        f"time: models in turn, median of {ROUNDS} rounds over {jets} test jets in batches of {BATCH}, float32, "
        f"{device.type}, threads: {torch.get_num_threads()}"
    )


@torch.inference_mode()
def seconds_per_jet(
    models: Mapping[str, nn.Module], batches: Mapping[str, Sequence[JetBatch]], device: torch.device
) -> dict[str, float]:
    """Inference time per jet of each model; models take turns, so that the load of the machine affects all alike.

    Args:
        models: models by name; set to evaluation mode.
        batches: batches for each model, by its name; must hold the same jets, possibly with different columns.
        device: the device to measure on.
    """
    where = {name: [batch.to(device) for batch in mine] for name, mine in batches.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS + 1):  # the first round warms up
        for name, model in models.items():
            model.to(device).eval()
            start = time.perf_counter()
            for batch in where[name]:
                model(batch).cpu()  # waits for a GPU
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times[1:]) / sum(map(len, where[name])) for name, times in seconds.items()}
