"""Lightning's trainer, for trainings and for predictions, and the errors of either."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from iagraph.data import StoreError
from iagraph.models import CheckpointError
from iagraph.train.config import Config
from iagraph.train.folder import RunError
from iagraph.yaml_config import ConfigError

USER_ERRORS = (ConfigError, StoreError, RunError, CheckpointError, FloatingPointError, OSError)
"""Errors that the commands report without a traceback."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence notes on hardware, and advice on workers, which does not apply to our loaders."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            # What stays in float32 beside 16-bit products, such as distances of neighbours, needs all its bits.
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores .* available but not enabled")
            warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
            warnings.filterwarnings("ignore", "(Experiment logs|Checkpoint) directory .* exists and is not empty")
            yield
    finally:
        logger.setLevel(level)


def make_trainer(config: Config, **settings: Any) -> Trainer:
    """Lightning's trainer with the device and precision of the configuration; by default for prediction only.

    Raises:
        RunError: the device is missing.
    """
    defaults = {
        "accelerator": config.train.device,
        "devices": 1,
        "num_nodes": 1,
        "precision": config.train.precision,
        "logger": False,
        "enable_checkpointing": False,
        "enable_model_summary": False,
    }
    try:
        return Trainer(**(defaults | settings))
    except MisconfigurationException as error:
        device, reason = (defaults | settings)["accelerator"], str(error).partition(". ")[0]
        raise RunError(f"device '{device}': {reason}; use another one, such as cpu") from error


def shows_bar(silent: bool) -> bool:
    """Whether to show a progress bar: on a terminal, unless ``silent``."""
    isatty = getattr(sys.stdout, "isatty", None)  # a replacement may lack it, and stdout may be None
    return not silent and isatty is not None and isatty()  # in a file, a bar would be thousands of lines
