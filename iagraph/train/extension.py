"""More epochs, or more patience, for a run that has finished or was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from iagraph.train.config import Config, differences
from iagraph.train.folder import RunError
from iagraph.train.keeping import KEY, LAST, can_be_extended, state_file
from iagraph.train.module import warmup_cosine
from iagraph.train.processes import rank

EXTENDING = ("train.epochs", "train.patience")
"""Keys of a run that may change when it goes on."""


def check_extension(folder: Path, before: Config, config: Config) -> None:
    """Whether a run can go on with another plan; tells what that means.

    Raises:
        RunError: it cannot.
    """
    if other := [key for key in differences(before, config) if key not in EXTENDING]:
        raise RunError(
            f"{folder}: a run goes on as it began, but for {' and '.join(EXTENDING)}, found {', '.join(other)}; train "
            f"anew, or from its weights: fine_tune.weights={folder}"
        )
    kept = folder / "checkpoints"
    if not can_be_extended(kept):
        raise RunError(
            f"{folder}: keeps no state of its training that could be extended (earlier versions did not); train anew "
            f"from its weights: fine_tune.weights={folder}"
        )
    state = torch.load(state_file(kept), weights_only=True, map_location="cpu")
    done, train, old = int(state["epoch"]) + 1, config.train, before.train
    if train.epochs <= done:
        raise RunError(f"{folder}: {done} epochs are over; give train.epochs more than {done}")
    if state[KEY]["over"] and train.epochs == old.epochs and train.patience <= old.patience:
        raise RunError(f"{folder}: has stopped after {done} epochs; give train.patience more than {old.patience}")
    if not rank() and train.epochs != old.epochs:
        lowest = train.min_learning_rate / train.learning_rate
        rates = [
            train.learning_rate * warmup_cosine(done / n, train.warmup, lowest) for n in (old.epochs, train.epochs)
        ]
        print(
            f"extended: from epoch {done + 1} on, the schedule is that of {train.epochs} epochs, in place of "
            f"{old.epochs}; the learning rate goes from {rates[0]:.2g} to {rates[1]:.2g} and down from there",
            flush=True,
        )


def extensions(kept: Path) -> dict[str, Any]:
    """What the record says of a training that was extended; nothing of others."""
    state = torch.load(kept / LAST, weights_only=True, map_location="cpu")
    after = state[KEY].get("extended_after", [])
    return {"training": {"epochs": int(state["epoch"]) + 1, "extended_after": after}} if after else {}
