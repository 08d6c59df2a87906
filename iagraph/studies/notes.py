"""What one must know to read the table of a comparison, as sentences: pure functions of recipes and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from iagraph.studies.tables import Result
from iagraph.train.config import Config
from iagraph.yaml_config import flat

SHOWN = ("data.node_features", "data.batch_size", "data.max_pairs", "fine_tune")
"""Keys that are told where recipes differ, and with them all of `train`; the model is what is compared."""


def different_recipes(recipes: Mapping[str, Config]) -> list[str]:
    """Each key whose value is not the same for all models, as in `train.epochs: 4, but ParticleNet 2`.

    The value of most models comes first, of equally many that of the first model.
    """
    settings = {name: _training(config) for name, config in recipes.items()}
    notes = []
    for key in next(iter(settings.values())):
        models: dict[str, list[str]] = {}
        for name, values in settings.items():
            models.setdefault(json.dumps(values[key]), []).append(name)
        common, *others = sorted(models, key=lambda value: -len(models[value]))
        if others:
            but = "; ".join(f"{', '.join(models[value])} {value}" for value in others)
            notes.append(f"{key}: {common}, but {but}".replace('"', ""))
    return notes


def _training(config: Config) -> dict[str, Any]:
    values = config.model_dump()
    tuned = {"fine_tune": values.pop("fine_tune")}  # a section of its own for some, nothing for others
    return {key: value for key, value in (*flat(values), *tuned.items()) if key in SHOWN or key.startswith("train.")}


def notes(
    recipes: Mapping[str, Config], seeds: Sequence[int], train: int, test: int, results: Sequence[Result]
) -> list[str]:
    """All but the time.

    Args:
        recipes: configuration of each model by its name in the table.
        seeds: of the runs of each model.
        train: number of training jets.
        test: number of test jets.
        results: of all runs.
    """
    data = next(iter(recipes.values())).data
    role = f"signal: {data.signal}" if data.signal else "AUC: mean over the classes, each against all others"
    if len(seeds) > 1:
        spread = f"the seeds {', '.join(map(str, seeds))}; +- is the sample standard deviation over these runs"
    else:
        spread = f"the seed {seeds[0]} alone: there is no spread, and no telling how much of a difference is chance"
    errors = [result.report["auc"].error for result in results]
    low, high = (f"{error:.2g}" for error in (min(errors), max(errors)))
    error = low if low == high else f"{low} to {high}"
    rejection = "1/eB: background rejection, one over the share of background jets that pass at this signal efficiency"
    return [
        f"each model trained with {spread}",
        *different_recipes(recipes),
        f"{train:,} training jets, {test:,} test jets, {role}",
        f"the finite test set alone has an error of {error} on the AUC, much of it common to all models, as they are "
        "tested on the same jets",
        f"multiplicity alone reaches an AUC of {results[0].multiplicity} on these jets",
        *([rejection] if any(key.startswith("rejection_at_") for key in results[0].report) else []),
        "FLOP: those of the matrix products of one forward pass, two per multiply-add",
    ]
