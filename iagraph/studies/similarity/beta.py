r"""The subtraction strength :math:`\beta` of differential attention, after training and through it."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from torch import nn

from iagraph.train.module import betas

PREFIX = "beta/"


class BetaHistory(NamedTuple):
    """How beta went.

    Attributes:
        epochs: numbers of the epochs, the first one being 1.
        layers: beta after each of them, by the name of the layer; the mean over heads if each has its own.
    """

    epochs: list[int]
    layers: dict[str, list[float]]


def beta_history(run: Path) -> BetaHistory:
    """Beta of each layer after each epoch, as the run logged it; empty if nothing is there.

    Args:
        run: folder of the run.
    """
    rows: dict[int, dict[str, float]] = {}
    path = run / "log" / "metrics.csv"
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                values = {
                    key.removeprefix(PREFIX): float(row[key]) for key in row if key.startswith(PREFIX) and row[key]
                }
                if values:
                    rows[int(row["epoch"]) + 1] = values
    epochs = sorted(rows)
    names = dict.fromkeys(name for epoch in epochs for name in rows[epoch])
    return BetaHistory(epochs, {name: [rows[epoch][name] for epoch in epochs] for name in names})


def kept_epoch(model: nn.Module, history: BetaHistory) -> int | None:
    """The epoch whose betas the model has, for the best one is kept, not the last; None if there are none.

    Args:
        model: the trained model.
        history: what its run logged.
    """
    found = {name: sum(beta) / len(beta) for name, beta in betas(model).items()}
    if not history.epochs or not found or set(found) != set(history.layers):
        return None
    distance = [
        sum(abs(history.layers[name][place] - beta) for name, beta in found.items())
        for place in range(len(history.epochs))
    ]
    return history.epochs[distance.index(min(distance))]
