"""The time that models take for the same jets, side by side."""

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
