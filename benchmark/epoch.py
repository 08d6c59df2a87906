"""Breakdown of the time of a training epoch, from Lightning's calls to its profiler."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import Profiler

from benchmark.measure import Report
from iagraph.memory import tune_memory
from iagraph.train.config import Config
from iagraph.train.run import train

LOADER, TRANSFER, FORWARD = "waiting for the loader", "transfer to the device", "forward"
BACKWARD, OPTIMISER, VALIDATION = "backward", "optimiser step", "validation"
METRICS, REST = "metrics, logging, callbacks", "rest"
PARTS = (LOADER, TRANSFER, FORWARD, BACKWARD, OPTIMISER, METRICS, VALIDATION, REST)
OVERHEAD = (LOADER, TRANSFER, METRICS, REST)

_ACTIONS = {
    "train_dataloader_next": LOADER,
    "val_next": LOADER,
    "batch_to_device": TRANSFER,
    "transfer_batch_to_device": TRANSFER,
    "on_before_batch_transfer": TRANSFER,
    "on_after_batch_transfer": TRANSFER,
    FORWARD: FORWARD,
    "backward": BACKWARD,
    "optimizer_step": OPTIMISER,
    "optimizer_zero_grad": OPTIMISER,
    "configure_gradient_clipping": OPTIMISER,
    "lr_scheduler_step": OPTIMISER,
    "run_training_epoch": REST,
    "run_training_batch": REST,
}
"""Parts by the last word of an action's name; other actions are hooks, steps without the network, and checkpoints."""


def benchmark_epoch(config: Config) -> Report:
    """Train one epoch as ``scripts/train.py`` does, including the run folder.

    Args:
        config: the recipe; its number of epochs and its folder are ignored.

    Raises:
        StoreError, RunError, FloatingPointError: as :func:`iagraph.train.run.train`.
    """
    tune_memory()
    watch = EpochWatch()
    with tempfile.TemporaryDirectory() as folder:
        one_epoch = config.train.model_copy(update={"epochs": 1})
        train(config.model_copy(update={"train": one_epoch, "output": folder}), [watch])
    seconds = watch.seconds
    total = sum(seconds.values())
    overhead = sum(seconds[part] for part in OVERHEAD)
    rows = [*seconds.items(), ("epoch", total), ("all but the network", overhead)]
    report = Report(f"An epoch of {config.name}: {config.model.name}, batches of {config.data.batch_size} jets")
    report.rows = [{"part": part, "seconds": value, "fraction [%]": 100 * value / total} for part, value in rows]
    report.notes = [
        f"loader, transfer, metrics and rest take {100 * overhead / total:.2f} % of the epoch",
        "validation: only the network; loader, transfer and metrics of validation are added to those of training",
        "metrics: includes the loss; rest: Lightning's loop, including its logs",
        "an epoch begins with the hooks on_train_epoch_start and ends before the hooks on_train_end",
    ]
    return report


class EpochWatch(Callback):
    """Measure the parts of an epoch by replacing the trainer's profiler.

    Attributes:
        seconds: time spent on each of :data:`PARTS`, from the start of the first epoch to the end of the training.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._hooks: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start profiling, with hooks on the network, which Lightning's actions do not separate from its loss."""
        profiler = _PartTimes(trainer, self.seconds)
        trainer.profiler = profiler  # type: ignore[attr-defined]  # created where mypy does not see it
        model = pl_module.get_submodule("model")
        self._hooks = [
            model.register_forward_pre_hook(lambda *_: profiler.start(FORWARD)),
            model.register_forward_hook(lambda *_: profiler.stop(FORWARD)),
        ]

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the hooks."""
        for hook in self._hooks:
            hook.remove()


class _PartTimes(Profiler):
    """Assign the time between two events to the innermost active action, so that each second counts once.

    Args:
        trainer: the trainer, for its device and whether it is validating.
        seconds: time of each part, updated in place.
    """

    def __init__(self, trainer: Trainer, seconds: dict[str, float]) -> None:
        super().__init__()
        self._trainer, self._seconds = trainer, seconds
        self._device = trainer.strategy.root_device
        self._under_way: list[str] = []
        self._in_epoch = False
        self._last = 0.0

    def start(self, action_name: str) -> None:
        """Begin an action, identified by the last word, as in ``[Callback]ModelCheckpoint.on_train_end``."""
        self._charge()
        word = action_name.rpartition(".")[2]
        if word in ("on_train_epoch_start", "on_train_end"):
            self._in_epoch = word == "on_train_epoch_start"
        self._under_way.append(_ACTIONS.get(word, METRICS))

    def stop(self, action_name: str) -> None:
        """End the innermost action."""
        self._charge()
        self._under_way.pop()

    def _charge(self) -> None:
        if self._device.type != "cpu":  # asynchronous work belongs to the action that started it
            getattr(torch, self._device.type).synchronize()
        now = time.perf_counter()
        if self._in_epoch:
            self._seconds[self._part()] += now - self._last
        self._last = now

    def _part(self) -> str:
        part = self._under_way[-1] if self._under_way else REST
        if self._trainer.validating:
            return {FORWARD: VALIDATION, REST: METRICS}.get(part, part)
        return part
