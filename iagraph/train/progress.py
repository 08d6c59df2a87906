"""Progress and cost of a training run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer

from iagraph.memory import memory_in_use
from iagraph.train.checkpoints import KEY, load_checkpoint, state_file


class EpochLines(Callback):
    """Prints one line per epoch, for output that cannot show a progress bar, such as a log file."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Print losses and validation AUC, the training loss as the mean over the epoch."""
        loss = float(pl_module.train_loss.compute())  # in all processes
        if trainer.is_global_zero:
            values: dict[str, Any] = {**trainer.callback_metrics, "train_loss": loss}
            known = [
                f"{name} {float(values[name]):.4f}" for name in ("train_loss", "val_loss", "val_auc") if name in values
            ]
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {', '.join(known)}", flush=True)


class TrainingCost(Callback):
    """Time and peak memory of all finished epochs, validation included, before and after interruptions.

    With several processes, only the first one is measured, without its loader workers. The cost is stored in
    checkpoints, where :func:`training_record` reads it.
    """

    def __init__(self) -> None:
        self._cost: dict[str, Any] = {"seconds": 0.0, "jets": 0}
        self._last, self._seen = time.perf_counter(), 0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start counting after the jets already seen: their cost is recorded or, from earlier versions, unknown."""
        self._last, self._seen = time.perf_counter(), pl_module.jets_seen

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Add the cost of the epoch."""
        now, seen = time.perf_counter(), pl_module.jets_seen
        self._cost["seconds"] += now - self._last
        self._cost["jets"] += seen - self._seen
        self._last, self._seen = now, seen
        peaks = {"peak_memory_mb": memory_in_use(peak=True)}
        if pl_module.device.type == "cuda":
            peaks["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated(pl_module.device) / 1e6
        self._cost |= {name: max(peak, self._cost.get(name, 0.0)) for name, peak in peaks.items() if peak is not None}

    def state_dict(self) -> dict[str, Any]:
        """The cost so far."""
        return self._cost

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the cost before the interruption."""
        self._cost = state_dict


def training_record(kept: Path) -> dict[str, Any]:
    """Epochs and cost of a training run, from its last checkpoint.

    Args:
        kept: folder of the checkpoints.

    Returns:
        ``epochs``; ``extended_after``, the numbers of epochs at which the run was extended, if it was; ``seconds``,
        ``jets`` (summed over the measured epochs), ``jets_per_second``, ``threads``, ``peak_memory_mb`` and, on a GPU,
        ``peak_gpu_memory_mb``, as far as known: earlier versions did not measure them, and not every system reports
        memory.
    """
    state = load_checkpoint(state_file(kept))
    record: dict[str, Any] = {"epochs": int(state["epoch"]) + 1}
    if after := state[KEY].get("extended_after", []):
        record["extended_after"] = after
    if cost := state["callbacks"].get(TrainingCost.__qualname__):
        record |= {**cost, "jets_per_second": cost["jets"] / cost["seconds"], "threads": state[KEY].get("threads")}
    return record
