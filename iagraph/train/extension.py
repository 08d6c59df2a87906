"""Extension of a finished or interrupted run to more epochs or patience."""

from __future__ import annotations

from pathlib import Path

from iagraph.train.checkpoints import KEY, load_checkpoint, state_file
from iagraph.train.config import Config, changed
from iagraph.train.folder import RunError
from iagraph.train.processes import rank
from iagraph.train.schedules import warmup_cosine

EXTENDABLE = ("train.epochs", "train.patience")
"""Keys that may change when a run is resumed."""


def check_extension(folder: Path, before: Config, config: Config) -> None:
    """Check that a run can be extended from ``before`` to ``config``; print how more epochs change the learning rate.

    Raises:
        RunError: it cannot be extended.
    """
    if other := [key for key in changed(before, config) if key not in EXTENDABLE]:
        raise RunError(
            f"{folder}: only {' and '.join(EXTENDABLE)} may change in a resumed run, found {', '.join(other)}; start a "
            f"new run, or fine-tune: fine_tune.weights={folder}"
        )
    path = state_file(folder / "checkpoints")
    state = load_checkpoint(path) if path.exists() else {}
    if "epochs" not in state.get(KEY, {}):
        raise RunError(
            f"{folder}: has no extendable training state (earlier versions kept none); fine-tune its weights: "
            f"fine_tune.weights={folder}"
        )
    done, train, old = int(state["epoch"]) + 1, config.train, before.train
    if train.epochs <= done:
        raise RunError(f"{folder}: {done} epochs are done; set train.epochs above {done}")
    if state[KEY]["over"] and train.epochs == old.epochs and train.patience <= old.patience:
        raise RunError(f"{folder}: stopped early after {done} epochs; set train.patience above {old.patience}")
    if not rank() and train.epochs != old.epochs:
        lowest = train.min_learning_rate / train.learning_rate
        rates = [
            train.learning_rate * warmup_cosine(done / n, train.warmup, lowest) for n in (old.epochs, train.epochs)
        ]
        print(
            f"extended: from epoch {done + 1} on, with the schedule of {train.epochs} instead of {old.epochs} epochs; "
            f"the learning rate jumps from {rates[0]:.2g} to {rates[1]:.2g} and decreases from there",
            flush=True,
        )
