"""Other models that a training builds on, its initial weights and its teacher, and the jets they were trained on."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iagraph.files import run_path
from iagraph.models import CheckpointError
from iagraph.train.config import Config
from iagraph.train.datamodule import Part


def origin(config: Config) -> dict[str, str]:
    """SHA-256 of the weights of each model that a training builds on, by the name in its configuration.

    Raises:
        OSError: there are no such weights.
    """
    return {name: sha256(_file(name).read_bytes()).hexdigest() for name in _sources(config).values()}


def seen_before(config: Config) -> tuple[NDArray[np.uint64], list[Part]]:
    """Digests and positions of the jets that these models were trained on, as recorded in their runs; empty for weights
    from elsewhere.

    Raises:
        CheckpointError: the record of a run is damaged.
        FileNotFoundError: the package has no model of this name.
    """
    digests, parts = np.zeros(0, np.uint64), []
    for key, name in _sources(config).items():
        if (run := run_of(name)) is None:
            continue
        try:
            description = json.loads((run / "model.json").read_text(encoding="utf-8"))
            digests = np.union1d(digests, np.load(run / "trained_on.npy", allow_pickle=False))
            parts += [Part(*part) for part in description["trained_on"]]
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise CheckpointError(f"{key}: {run}: trained_on.npy or model.json is damaged ({error})") from error
    return digests, parts


def run_of(weights: str) -> Path | None:
    """The run folder that weights come from, if any."""
    file = _file(weights)
    known = file.name == "model.pt" and all((file.parent / name).is_file() for name in ("config.yaml", "model.json"))
    return file.parent if known else None


def _sources(config: Config) -> dict[str, str]:
    """What the configuration names as initial weights and as teacher, by key."""
    found = {}
    if config.fine_tune is not None:
        found["fine_tune.weights"] = config.fine_tune.weights
    if config.distill is not None:
        found["distill.teacher"] = config.distill.teacher
    return found


def _file(weights: str) -> Path:
    path = run_path(weights)
    return path / "model.pt" if path.is_dir() else path
