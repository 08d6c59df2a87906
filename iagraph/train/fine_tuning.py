"""Initial weights for fine-tuning: loading, compatibility, and the jets they were trained on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from iagraph.files import run_path
from iagraph.models import CheckpointError, load_weights
from iagraph.train.config import Config, load_config
from iagraph.train.datamodule import Part
from iagraph.yaml_config import ConfigError


def origin(config: Config) -> dict[str, str]:
    """SHA-256 of the file of initial weights, by its name; empty for random weights."""
    if config.fine_tune is None:
        return {}
    return {config.fine_tune.weights: hashlib.sha256(_file(config).read_bytes()).hexdigest()}


def load_initial_weights(model: nn.Module, config: Config, classes: tuple[str, ...]) -> None:
    """Load initial weights into a new model, and check the names of frozen modules.

    A weights file has only tensors to compare; a run folder also records the task, which is compared, too.

    Raises:
        CheckpointError: the weights cannot be read or do not fit; lists all differences.
        ValueError: a module or parameter to freeze does not exist in the model.
    """
    settings = config.fine_tune
    if settings is None:
        return
    names = {name for name, _ in (*model.named_modules(), *model.named_parameters())}
    for name in settings.frozen:
        if name not in names:
            known = {name.partition(".")[0]: None for name, _ in model.named_parameters()}
            there = ", ".join(name for name in known if name != "head")
            raise ValueError(
                f"fine_tune.frozen: {config.model.name} has no '{name}'; it has {there} and their submodules"
            )
    try:
        if (run := _run(config)) is not None:
            _compare(run, config, classes)
        load_weights(model, settings.weights, settings.new_head)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"fine_tune.weights: {error}") from error


def seen_before(config: Config) -> tuple[NDArray[np.uint64], list[Part]]:
    """Digests and positions of the jets that the initial weights were trained on, as recorded in their run; empty for
    weights from elsewhere.

    Raises:
        CheckpointError: the record of the run is damaged.
    """
    run = None if config.fine_tune is None else _run(config)
    if run is None:
        return np.zeros(0, np.uint64), []
    try:
        digests = np.load(run / "trained_on.npy", allow_pickle=False)
        return digests, [Part(*part) for part in _description(run)["trained_on"]]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise CheckpointError(f"fine_tune.weights: {run}: trained_on.npy or model.json is damaged ({error})") from error


def _file(config: Config) -> Path:
    assert config.fine_tune is not None
    path = run_path(config.fine_tune.weights)
    return path / "model.pt" if path.is_dir() else path


def _run(config: Config) -> Path | None:
    """The run folder that the weights come from, if any."""
    file = _file(config)
    known = file.name == "model.pt" and all((file.parent / name).is_file() for name in ("config.yaml", "model.json"))
    return file.parent if known else None


def _description(run: Path) -> Any:
    return json.loads((run / "model.json").read_text(encoding="utf-8"))


def _compare(run: Path, config: Config, classes: tuple[str, ...]) -> None:
    """Check that the run trained this network (dropout and pruning may differ) with these features and, if its head is
    kept, these classes.
    """
    theirs = load_config(run / "config.yaml")
    pairs: dict[str, tuple[Any, Any]] = {
        "data.node_features": (theirs.data.node_features, config.data.node_features),
        "data.pair_features": (theirs.data.pair_features, config.data.pair_features),
    }
    there, here = theirs.model.model_dump(), config.model.model_dump()
    without_weights = ("dropout", "pruning")
    keys = [key for key in {**there, **here} if key not in without_weights]
    pairs |= {f"model.{key}": (there.get(key), here.get(key)) for key in keys}
    if not config.fine_tune or not config.fine_tune.new_head:
        try:
            pairs["classes"] = (tuple(_description(run)["classes"]), classes)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{run / 'model.json'}: damaged ({error}); copy the run again") from error
    if other := [f"{key} is {mine}, in that run {old}" for key, (old, mine) in pairs.items() if old != mine]:
        raise CheckpointError("\n  ".join([f"{run}: trained for a different task:", *other]))
