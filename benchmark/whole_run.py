"""A whole training as for users, from the start of Python to the report, in a new process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.measure import Report, in_new_process


def benchmark_run(recipe: str, overrides: Sequence[str] = ()) -> Report:
    """Train and evaluate a recipe as ``iagraph train`` does.

    Args:
        recipe: name or file.
        overrides: changes of single keys, ``section.key=value``.

    Raises:
        StoreError, RunError, ConfigError, FloatingPointError: as :func:`iagraph.train.run.train`.
    """
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run, memory = in_new_process(_train, recipe, overrides, f"{folder}/run")
        seconds = time.perf_counter() - start
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    training = metrics["training"]
    report = Report(f"A whole run of {recipe}{''.join(f' {change}' for change in overrides)}")
    report.rows = [
        {
            "jets, all epochs": training["jets"],
            "epochs": training["epochs"],
            "seconds": seconds,
            "jets/s of the run": training["jets"] / seconds,
            "peak memory [MB]": memory,
            "AUC": f"{metrics['tagger']['auc']['value']:.4f}",
        }
    ]
    report.notes = [
        "seconds: from the start of Python to the report, with imports, validation, test and figures",
        "jets/s of the run: training jets, those of every epoch counted, divided by these seconds",
        "peak memory: of the process, Python and its packages included, without worker processes",
    ]
    return report


def _train(recipe: str, overrides: Sequence[str], folder: str) -> Path:
    """The run folder."""
    from iagraph.cli.process import prepare_process
    from iagraph.train.config import load_config
    from iagraph.train.run import train

    prepare_process()
    return train(load_config(recipe, overrides), into=folder)
