"""What a training keeps on disk, so that it can go on after whatever ends it: its state after each epoch, whole.

A run that goes on from there does the same, bit for bit on one CPU process, as one that was never interrupted: the
state holds weights, optimiser, schedule, progress, early stopping, random states and the log, and the order of the jets
follows from seed and epoch. What is lost is the epoch that was not over.
"""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from iagraph.files import replaced, write_text
from iagraph.models import CheckpointError
from iagraph.train.config import TrainConfig
from iagraph.train.folder import RunError

LAST, BEST, END = "last.ckpt", "best.ckpt", "end.ckpt"
"""The state of a training that is not over, the best weights, and the state of one that is over and may be extended."""

KEY = "iagraph"
"""Where the state of a training holds what Lightning does not keep."""


class SafeFiles(TorchCheckpointIO):
    """Checkpoints that are on disk whole or not at all, and from which nothing but tensors and plain data is read."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes one in place of an older one.

        Raises:
            CheckpointError: it cannot be written; the older one is as it was.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replaced(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns a full disk into a RuntimeError
            raise CheckpointError(
                f"{path}: cannot write ({error}); make room, and go on with: python scripts/train.py --resume "
                f"{path.parent.parent}"
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Reads one; whatever is asked for, no code in it is run."""
        return torch.load(path, map_location=map_location, weights_only=True)


class BestWeights(ModelCheckpoint):
    """The weights of lowest validation loss, in ``best.ckpt`` of a folder that may be moved between interruptions.

    Args:
        folder: where to.
        averaged: whether they are averages, which Lightning puts into whole checkpoints only.
    """

    def __init__(self, folder: Path, averaged: bool) -> None:
        super().__init__(
            folder, "best", monitor="val_loss", save_weights_only=not averaged, enable_version_counter=False
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What is known of the best weights, which are in the folder as it is called now."""
        path, score = f"{self.dirpath}/{BEST}", state_dict["best_model_score"]
        here = {"dirpath": self.dirpath, "best_model_path": path, "kth_best_model_path": path}
        super().load_state_dict({**state_dict, **here, "best_k_models": {path: score}})


def moving_average(decay: float) -> WeightAveraging:
    r"""The average of the weights that is validated and kept, instead of the weights that are trained.

    After step :math:`t` it moves to the weights by :math:`1 - \min(d, (1 + t) / (10 + t))` of the way, with decay
    :math:`d`: the first weights, which are random, are soon forgotten.
    """

    def step(averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
        steps = int(steps)  # once for all of them: a GPU must wait for it
        weight = 1 - min(decay, (1 + steps) / (10 + steps))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:  # a count
                average.copy_(value)

    return WeightAveraging(multi_avg_fn=step)


class Keeper(Checkpoint):
    """Keeps the state of a training after each epoch in ``last.ckpt``, and takes it up again.

    Args:
        folder: where to.
        csv: the log that is part of it.
        jets: fingerprints of the files of jets, by role; a training goes on with the same ones only.
        plan: how long to train.
        state: what the training goes on from; if that had other epochs, its patience begins anew.
    """

    def __init__(
        self, folder: Path, csv: CSVLogger, jets: dict[str, dict[str, str]], plan: TrainConfig, state: State | None
    ) -> None:
        self.path, self.csv, self.jets, self.patience = folder / LAST, csv, jets, plan.patience
        self.extended = state is not None and state.epochs != plan.epochs
        self.extended_after = [] if state is None else [*state.extended_after, *([state.done] if self.extended else [])]
        self._random: dict[str, Any] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the state; of all callbacks this comes last, so that what the others log is part of it."""
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds what Lightning does not keep."""
        states = _of_all_processes(_random_states())
        if not trainer.is_global_zero:  # which does not write it either
            return
        self.csv.save()
        file = Path(self.csv.log_dir) / "metrics.csv"
        checkpoint[KEY] = {
            "over": trainer.should_stop or trainer.current_epoch + 1 >= (trainer.max_epochs or 0),
            "log": file.read_text(encoding="utf-8") if file.exists() else "",
            "jets": self.jets,
            "random": states,
            "epochs": trainer.max_epochs,
            "patience": self.patience,
            "extended_after": self.extended_after,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Takes the random states up, for when the next epoch begins, and corrects the patience that is taken up."""
        self._random = checkpoint[KEY]["random"][trainer.global_rank]
        for name, state in checkpoint["callbacks"].items():
            if name.startswith(EarlyStopping.__qualname__):
                state |= {"patience": self.patience} | ({"wait_count": 0} if self.extended else {})

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the random states to those of the end of the last epoch, if this one is the first after a break."""
        if self._random is not None:
            _set_random_states(self._random)
            self._random = None


class State(NamedTuple):
    """What is known of a training before it goes on.

    Attributes:
        over: whether nothing is left to be trained.
        log: the log so far.
        steps: the first step that is to be logged.
        done: number of epochs that are over.
        epochs: how many there were to be at most.
        extended_after: after which epochs there were to be more than before.
    """

    over: bool
    log: str
    steps: int
    done: int
    epochs: int
    extended_after: list[int]


def read_state(folder: Path, jets: dict[str, dict[str, str]], plan: TrainConfig) -> State | None:
    """The state of a training; None if no epoch was over.

    Args:
        folder: where :data:`LAST` or, of a run that has finished, :data:`END` is.
        jets: fingerprints of the files of jets there are, by role.
        plan: how long to train now.

    Raises:
        CheckpointError: it is damaged.
        RunError: the training had other jets.
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
    except Exception as error:  # damaged files raise anything
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: is damaged ({reason}); delete it, and the run begins anew") from error
    for role, files in jets.items():
        if list(files.values()) != list(found[role].values()):
            raise RunError(
                f"{path.parent.parent}: the jets of data.{role} ({', '.join(files)}) are others than those that the "
                "run began with; bring these back, or train anew"
            )
    return State(over, log, 1 + max(steps, default=-1), done, epochs, state.get("extended_after", []))


def state_file(folder: Path) -> Path:
    """The file of the state that a training goes on from; it may be absent."""
    return folder / LAST if (folder / LAST).exists() or not (folder / END).exists() else folder / END


def can_be_extended(folder: Path) -> bool:
    """Whether there is a state that knows how long the training was to be; earlier versions kept none."""
    path = state_file(folder)
    return path.exists() and "epochs" in torch.load(path, weights_only=True, map_location="cpu").get(KEY, {})


def restore_log(log: CSVLogger, text: str) -> None:
    """Makes a text, whose lines end in a line feed, the contents of a log so far."""
    experiment = log.experiment  # which removes an older file when it is made
    if text:
        write_text(Path(experiment.metrics_file_path), text.replace("\n", "\r\n"))  # as Lightning ends its lines
        experiment.metrics_keys = text.partition("\n")[0].split(",")


def _of_all_processes(mine: Any) -> list[Any]:
    """What each of the processes that train together has, in their order."""
    if not torch.distributed.is_initialized():
        return [mine]
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def _random_states() -> dict[str, Any]:
    """All that Lightning seeds."""
    numpy: Any = np.random.get_state(legacy=False)  # noqa: NPY002, it is the global one that is kept
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
