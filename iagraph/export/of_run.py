"""The model of a run folder, exported: what ``iagraph export`` calls."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data import JetStore, StoredJets, StoreError, resolve, store_info
from iagraph.export.comparison import JETS_AT_ONCE, ExportError
from iagraph.export.files import export_onnx, export_program
from iagraph.files import user_path
from iagraph.jets import JetBatch
from iagraph.models.registry import TrainedModel, load

JETS = 512
"""Test jets that an exported model is compared with."""


def export_run(
    run: str | Path, onnx: str | Path | None = None, program: str | Path | None = None, **options_of_onnx: Any
) -> Iterator[str]:
    """Exports the trained model of a run; tells what was written, file by file.

    Args:
        run: the folder of a run.
        onnx: file in ONNX.
        program: file of ``torch.export``.
        **options_of_onnx: see :func:`~iagraph.export.files.export_onnx`.

    Raises:
        CheckpointError: the folder holds no trained model.
        ExportError: packages are missing, or the exported model gives other results.
        OSError: a file cannot be written.
    """
    paths = [None if path is None else user_path(path) for path in (onnx, program)]
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise ExportError(f"{path.parent}: no such folder; make it first")
    trained = load(run)
    batches, jets = jets_of_test(trained)
    writers: tuple[tuple[Any, dict[str, Any]], ...] = (export_onnx, options_of_onnx), (export_program, {})
    for path, (write, options) in zip(paths, writers, strict=True):
        if path is not None:
            compared = write(trained, path, batches, **options)
            left_out = f", {compared.undecided} left out, of which rounding decides a choice" * bool(compared.undecided)
            yield (
                f"{path}: {path.stat().st_size / 1e6:.1f} MB, compared with PyTorch over {compared.jets} jets ({jets} "
                f"and random ones{left_out}): logits differ by {compared.largest:.1e} at most"
            )


def jets_of_test(trained: TrainedModel) -> tuple[list[JetBatch], str]:
    """Some jets that the model was tested on, evenly spaced, in batches, and what they are; none if not here."""
    files = list(trained.description.get("data", {}).get("test", {}))
    try:
        stores = [JetStore(resolve(file), "test" if store_info(resolve(file)).splits else None) for file in files]
    except StoreError:
        stores = []
    if not stores:
        return [], "no test jets, which are not here,"
    batches = []
    for source in (StoredJets([store]) for store in stores if len(store)):  # which may differ in classes and weights
        numbers = np.unique(np.linspace(0, len(source) - 1, -(-JETS // len(stores))).astype(int))
        batches += [source[part.tolist()] for part in np.array_split(numbers, -(-len(numbers) // JETS_AT_ONCE))]
    return batches, f"{sum(map(len, batches))} test jets"
