"""Checkpoints: the state of a training run after each epoch, from which an interrupted run resumes.

In a single CPU process a resumed run equals an uninterrupted one bit for bit: the state holds weights, optimiser,
schedule, progress, early stopping, random states, log and number of threads, on which rounding depends; the order of
jets follows from seed and epoch. Only the unfinished epoch is lost.
"""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from iagraph.files import replaced, write_text
from iagraph.models import CheckpointError
from iagraph.models.state_dicts import write_state_dict
from iagraph.train.config import TrainConfig
from iagraph.train.folder import RunError, weights_of_epoch

LAST, BEST, END = "last.ckpt", "best.ckpt", "end.ckpt"
"""State of an unfinished run, best weights, and the state from which a finished run may be extended."""

ORIGIN = "origin"
"""Key of the weights that the run builds on among the fingerprints of jets by role."""

KEY = "iagraph"
"""Key under which a checkpoint holds the entries that Lightning itself does not store."""


class StateError(CheckpointError, RunError):
    """The state of a run is damaged, or of other jets or weights: the run cannot be resumed, only begun again."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoint files atomically, and reads only tensors and plain data from them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, replacing an older one.

        Raises:
            CheckpointError: the new one cannot be written; the older one is unchanged.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
            raise CheckpointError(
                f"{path}: cannot write ({error}); free some space, then resume: iagraph train --resume "
                f"{path.parent.parent}"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint without running any code in it."""
        return torch.load(path, map_location=map_location, weights_only=True)


class BestWeights(ModelCheckpoint):
    """Keeps the weights with the lowest validation loss in ``best.ckpt``; an interrupted run's folder may be moved.

    Args:
        folder: output folder.
        averaged: whether weights are averaged; Lightning stores averages in full checkpoints only.
    """

    def __init__(self, folder: Path, averaged: bool) -> None:
        path = str(folder.resolve())  # as Lightning makes it, but of "a::b", which looks like a URL, too
        super().__init__(path, "best", monitor="val_loss", save_weights_only=not averaged, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the record of the best weights, with the current path of the folder."""
        path, score = f"{self.dirpath}/{BEST}", state_dict["best_model_score"]
        here = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        super().load_state_dict({**state_dict, **here, "best_k_models": {path: score}})


class KeptWeights(Callback):
    """Keeps the validated weights every so many epochs, as the best ones are kept in ``model.pt``.

    Args:
        folder: the run folder.
        every: the number of epochs.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep the weights before training goes on without their average, if they are averaged."""
        epoch = trainer.current_epoch + 1
        if trainer.sanity_checking or not trainer.is_global_zero or epoch % self.every:
            return
        write_state_dict(weights_of_epoch(self.folder, epoch), pl_module.model.state_dict())


def moving_average(decay: float) -> WeightAveraging:
    r"""Exponential moving average of the weights, which is validated and saved instead of the weights.

    After step :math:`t` it moves towards the weights by the fraction :math:`1 - \min(d, (1 + t) / (10 + t))`, with
    decay :math:`d`, so the random initial weights are soon forgotten.
    """

    def step(averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)  # converted once, as it synchronises a GPU
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:  # a count
                average.copy_(value)

    return WeightAveraging(multi_avg_fn=step)


class ResumeCheckpoint(Checkpoint):
    """Saves the state of a training run in ``last.ckpt`` after each epoch, and restores it.

    Args:
        folder: output folder.
        csv: the logger; the checkpoint holds a copy of its file.
        inputs: fingerprints of the jet files, by role, and of the weights that the run builds on (:data:`ORIGIN`); a
            run resumes only with the same ones.
        plan: the planned epochs and patience.
        state: the state to resume from, if any; if its planned epochs differ from those of ``plan``, patience restarts.
    """

    def __init__(
        self, folder: Path, csv: CSVLogger, inputs: dict[str, dict[str, str]], plan: TrainConfig, state: State | None
    ) -> None:
        self.path, self.csv, self.inputs, self.patience = folder / LAST, csv, inputs, plan.patience
        self.extended = state is not None and state.epochs != plan.epochs
        self.extended_after = [] if state is None else [*state.extended_after, *([state.done] if self.extended else [])]
        self._random: dict[str, Any] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state; this callback runs last, so the state includes what the others log."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning does not store."""
        states = _gathered(_random_states())
        if not trainer.is_global_zero:  # other processes write no checkpoint
            return
        self.csv.save()
        file = Path(self.csv.log_dir) / "metrics.csv"
        checkpoint[KEY] = {
            "over": trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0),
            "log": file.read_text(encoding="utf-8") if file.exists() else "",
            "jets": self.inputs,
            "random": states,
            "epochs": trainer.max_epochs,
            "patience": self.patience,
            "extended_after": self.extended_after,
            "threads": torch.get_num_threads(),
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the random states for the start of the next epoch, and set the patience of early stopping."""
        self._random = checkpoint[KEY]["random"][trainer.global_rank]
        for name, state in checkpoint["callbacks"].items():
            if name.startswith(EarlyStopping.__qualname__):
                state |= {"patience": self.patience} | ({"wait_count": 0} if self.extended else {})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """When resuming, restore the random states from the end of the last complete epoch."""
        if self._random is not None:
            _set_random_states(self._random)
            self._random = None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        StateError: the file is missing or damaged.
    """
    try:
        found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # damaged files may raise anything
        reason = " ".join(str(error).split()).partition(". ")[0][:200]
        raise StateError(f"{path}: missing or damaged ({reason}); start a new run") from error
    return found


class State(NamedTuple):
    """State of a training run to resume.

    Attributes:
        over: whether the training is complete.
        log: contents of the CSV log so far.
        steps: the next step to be logged.
        done: number of finished epochs.
        epochs: planned number of epochs.
        extended_after: numbers of finished epochs at which the plan was extended.
        threads: number of threads of each process; None if not recorded, as in earlier versions.
    """

    over: bool
    log: str
    steps: int
    done: int
    epochs: int
    extended_after: list[int]
    threads: int | None


def read_state(folder: Path, inputs: dict[str, dict[str, str]], plan: TrainConfig) -> State | None:
    """Read the state of a training run; None if no epoch was finished.

    Args:
        folder: folder of :data:`LAST` or, for a finished run, :data:`END`.
        inputs: fingerprints of the current jet files, by role, and of the weights that the run builds on.
        plan: the epochs and patience planned now.

    Raises:
        StateError: the state is damaged, or the run began with other jets, initial weights or teacher.
    """
    path = state_file(folder)
    if not path.exists():
        return None
    try:
        whole = torch.load(path, weights_only=True, map_location="cpu")
        state, done = whole[KEY], int(whole["epoch"]) + 1
        steps = [int(row["step"]) for row in csv.DictReader(io.StringIO(state["log"]))]
        found, over, log = state["jets"], bool(state["over"]), str(state["log"])
        epochs, patience = (state.get(key, getattr(plan, key)) for key in ("epochs", "patience"))
        if (epochs, patience) != (plan.epochs, plan.patience):
            over = done >= plan.epochs
    except Exception as error:  # damaged files may raise anything
        reason = " ".join(str(error).split())[:200]
        raise StateError(f"{path}: damaged ({reason}); delete it to restart the run") from error
    for role, files in inputs.items():
        if role in found and list(files.values()) != list(found[role].values()):  # earlier versions kept no origin
            what = "weights" if role == ORIGIN else f"jets of data.{role}"
            raise StateError(
                f"{path.parent.parent}: the {what} ({', '.join(files)}) differ from those that the "
                "run began with; restore these, or start a new run"
            )
    more = state.get("extended_after", []), state.get("threads")
    return State(over, log, 1 + max(steps, default=-1), done, epochs, *more)


def state_file(folder: Path) -> Path:
    """File with the state to resume from; it may not exist."""
    return folder / LAST if (folder / LAST).exists() or not (folder / END).exists() else folder / END


def restore_log(log: CSVLogger, text: str) -> None:
    """Restore the contents of a log from text with line feeds."""
    experiment = log.experiment  # its creation removes an older file
    if text:
        write_text(Path(experiment.metrics_file_path), text.replace("\n", "\r\n"))  # as Lightning ends its lines
        experiment.metrics_keys = text.partition("\n")[0].split(",")


def _gathered(mine: Any) -> list[Any]:
    """Values of all training processes, by rank."""
    if not torch.distributed.is_initialized():
        return [mine]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def _random_states() -> dict[str, Any]:
    """Random states of all generators that Lightning seeds."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002, the global generator is meant
    numpy["state"]["key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return {
        "python": random.getstate(),
        "numpy": numpy,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_states(states: dict[str, Any]) -> None:
    numpy = states["numpy"]
    numpy["state"]["key"] = numpy["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state(numpy)  # noqa: NPY002
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
