"""Initial weights for fine-tuning: loading and compatibility."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from iagraph.models import CheckpointError, load_weights
from iagraph.train.config import Config, load_config
from iagraph.train.origin import run_of
from iagraph.yaml_config import ConfigError


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
        if (run := run_of(settings.weights)) is not None:
            _compare(run, config, classes)
        load_weights(model, settings.weights, settings.new_head)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError(f"fine_tune.weights: {error}") from error


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
            pairs["classes"] = (tuple(json.loads((run / "model.json").read_text(encoding="utf-8"))["classes"]), classes)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{run / 'model.json'}: damaged ({error}); copy the run again") from error
    if other := [f"{key} is {mine}, in that run {old}" for key, (old, mine) in pairs.items() if old != mine]:
        raise CheckpointError("\n  ".join([f"{run}: trained for a different task:", *other]))
