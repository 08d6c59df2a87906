"""Run folders: creating them, saving a model with its description, and loading a run."""

from __future__ import annotations

import csv
import json
import pickle
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from iagraph.files import LockedError, locked, replaced, run_path, write_text
from iagraph.kinematics import NODE_FEATURES, PAIR_FEATURES, feature_names
from iagraph.machine import versions
from iagraph.models.registry import make_model
from iagraph.models.state_dicts import write_state_dict
from iagraph.train.config import Config, load_config
from iagraph.train.datamodule import JetDataModule, Part
from iagraph.train.evaluation import MultiplicityTagger
from iagraph.train.fine_tuning import load_initial_weights


class RunError(RuntimeError):
    """A run cannot be started, resumed, loaded or used as requested. The message says why, and usually what to do."""


def model_arguments(config: Config, classes: Sequence[str]) -> dict[str, Any]:
    """Name and arguments of a configuration's model, for :func:`make_model`."""
    settings = config.model.model_dump()
    if config.model.takes_pairs:
        settings["pair_features"] = config.data.pair_features
    return settings | {"node_features": config.data.node_features, "num_classes": len(classes)}


def build_model(config: Config, classes: Sequence[str]) -> nn.Module:
    """The model of a configuration, with random weights."""
    return make_model(**model_arguments(config, classes))


def new_model(config: Config, classes: Sequence[str]) -> nn.Module:
    """The initial model of a training run, with random or given weights.

    Raises:
        RunError: the weights cannot be read or do not fit, or a module to freeze does not exist in the model.
    """
    model = build_model(config, classes)
    try:
        load_initial_weights(model, config, tuple(classes))
    except ValueError as error:
        raise RunError(str(error)) from error
    return model


def new_run_folder(output: Path, name: str) -> Path:
    """Create the first free folder of ``output/name-001``, ``output/name-002``, ..., safe against concurrent calls.

    Raises:
        RunError: the folder cannot be created.
    """
    make_folder(output, exist_ok=True)
    number = 1
    while True:
        try:
            return make_folder(output / f"{name}-{number:03}")
        except FileExistsError:
            number += 1


def make_folder(path: Path, exist_ok: bool = False) -> Path:
    """Create a folder.

    Raises:
        FileExistsError: it exists, unless ``exist_ok``.
        RunError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise RunError(
            f"{path}: cannot make this folder ({error.strerror}); check the path and its permissions"
        ) from error
    return path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes, see :func:`iagraph.files.locked`.

    Raises:
        RunError: another process has locked it.
    """
    try:
        with locked(folder / ".lock"):
            yield
    except LockedError as error:
        raise RunError(f"{folder}: another process works here: {error}") from None


def save_model(
    folder: Path,
    config: Config,
    model: nn.Module,
    data: JetDataModule,
    baseline: MultiplicityTagger,
    started_from: dict[str, str],
) -> None:
    """Write ``model.pt`` (plain tensors), ``model.json`` (their description) and ``trained_on.npy``.

    ``started_from`` is the :func:`~iagraph.train.origin.origin` of the run.
    """
    write_state_dict(folder / "model.pt", model.state_dict())
    with replaced(folder / "trained_on.npy") as file:
        np.save(file, data.trained_on, allow_pickle=False)
    arguments = model_arguments(config, data.classes)
    description = {
        "model": arguments,
        "node_features": feature_names(arguments["node_features"], NODE_FEATURES),
        "pair_features": feature_names(pairs, PAIR_FEATURES) if (pairs := arguments.get("pair_features")) else (),
        "view": asdict(config.data.view),
        "massive_particles": data.massive_particles,
        "classes": data.classes,
        "multiplicity": asdict(baseline),
        "data": data.fingerprints,
        "trained_on": data.parts,
        "training_jets": len(data.datasets["train"]),
        "started_from": started_from,
        "versions": versions("torch", "torch-geometric", "lightning", "numpy") | {"python": platform.python_version()},
    }
    write_text(folder / "model.json", json.dumps(description, indent=2) + "\n")


class Run(NamedTuple):
    """A finished run.

    Attributes:
        config: its configuration.
        classes: class names.
        model: the trained model.
        baseline: the multiplicity tagger fitted to the training jets.
        trained_on: file fingerprints and positions of the training jets.
        massive: fraction of massive particles in the training jets; None if not recorded.
        training_jets: number of training jets.
    """

    config: Config
    classes: tuple[str, ...]
    model: nn.Module
    baseline: MultiplicityTagger
    trained_on: list[Part]
    massive: float | None = None
    training_jets: int = 0


def load_run(run: str | Path) -> Run:
    """Load a finished run.

    Raises:
        RunError: the folder holds no finished run, or its weights are damaged.
        ConfigError: its configuration is no longer valid.
    """
    run = run_path(run)
    missing = [
        name for name in ("config.yaml", "model.pt", "model.json", "trained_on.npy") if not (run / name).is_file()
    ]
    if not run.is_dir():
        raise RunError(f"{run}: no such folder; give the folder of a finished run")
    if missing:
        raise RunError(f"{run}: lacks {', '.join(missing)}; give the folder of a finished run")
    config = load_config(run / "config.yaml")
    try:
        description = json.loads((run / "model.json").read_text(encoding="utf-8"))
        classes = tuple(description["classes"])
        baseline = MultiplicityTagger(**description["multiplicity"])
        trained_on = [Part(*part) for part in description["trained_on"]]
        massive = description.get("massive_particles")
        training_jets = description.get("training_jets")
        if training_jets is None:  # in earlier versions
            own = sum(part.end - part.begin for part in trained_on[: len(description["data"]["train"])])
            training_jets = min(own, config.data.max_jets or own)
        model = build_model(config, classes)
        model.load_state_dict(torch.load(run / "model.pt", weights_only=True, map_location="cpu"))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunError(f"{run}: model.pt or model.json is damaged or does not match config.yaml ({reason})") from error
    return Run(config, classes, model, baseline, trained_on, massive, training_jets)


def weights_of_epoch(folder: Path, epoch: int) -> Path:
    """File of the weights that ``train.keep_every`` keeps after an epoch, counted from 1."""
    return folder / "checkpoints" / f"epoch-{epoch}.pt"


def kept_epochs(folder: Path) -> list[int]:
    """The epochs whose weights a run has kept, in order."""
    names = [re.fullmatch(r"epoch-(\d+)\.pt", path.name) for path in (folder / "checkpoints").glob("epoch-*.pt")]
    return sorted(int(name[1]) for name in names if name)


def read_history(folder: Path) -> list[dict[str, float]]:
    """Losses and AUC of each epoch, numbered from 1, from Lightning's CSV log."""
    epochs: dict[int, dict[str, float]] = {}
    with (folder / "log" / "metrics.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = {key: float(row[key]) for key in ("train_loss", "val_loss", "val_auc") if row.get(key)}
            if values:
                epochs.setdefault(int(row["epoch"]), {"epoch": float(row["epoch"]) + 1}).update(values)
    return [epochs[epoch] for epoch in sorted(epochs)]
