"""Export of the model of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data import JetStore, StoredJets, StoreError, resolve, store_info
from iagraph.data.sources import evenly_spaced
from iagraph.export.comparison import JETS_AT_ONCE, ExportError
from iagraph.export.files import export_onnx, export_program
from iagraph.export.inputs import COLUMNS, input_names
from iagraph.files import user_path
from iagraph.jets import JetBatch
from iagraph.models.registry import TrainedModel, load

JETS = 512
"""Number of test jets for the comparison of an exported model."""


def export_run(
    run: str | Path,
    onnx: str | Path | None = None,
    program: str | Path | None = None,
    force: bool = False,
    **onnx_options: Any,
) -> Iterator[str]:
    """Export the trained model of a run; yields a line of text per file written.

    Args:
        run: the run folder.
        onnx: ONNX file, NAME.onnx.
        program: ``torch.export`` file, NAME.pt2.
        force: replace existing files.
        **onnx_options: see :func:`~iagraph.export.files.export_onnx`.

    Raises:
        CheckpointError: the folder holds no trained model.
        ExportError: packages or folders are missing, a path is a folder, has another suffix or, without ``force``,
            exists; test jets of the run lack an input; or the exported model gives other results.
        OSError: a file cannot be written.
    """
    paths = [None if path is None else user_path(path) for path in (onnx, program)]
    for path, suffix in zip(paths, (".onnx", ".pt2"), strict=True):
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ExportError(f"{path.parent}: no such folder; make it first")
        if path.is_dir():
            raise ExportError(f"{path}: a folder; name a file in it")
        if path.suffix != suffix:
            raise ExportError(f"{path}: the name should end in {suffix}")
        if path.exists() and not force:
            raise ExportError(f"{path}: already exists; choose another name, or --force to replace it")
    trained = load(run)
    batches, jets = comparison_jets(trained)
    writers: tuple[tuple[Any, dict[str, Any]], ...] = (export_onnx, onnx_options), (export_program, {})
    for path, (write, options) in zip(paths, writers, strict=True):
        if path is not None:
            compared = write(trained, path, batches, **options)
            left_out = f", {compared.undecided} left out, decided by rounding" * bool(compared.undecided)
            yield (
                f"{path}: {path.stat().st_size / 1e6:.1f} MB, compared with PyTorch on {compared.jets} jets ({jets} "
                f"and random ones{left_out}): logits differ by {compared.largest:.1e} at most"
            )


def comparison_jets(trained: TrainedModel) -> tuple[list[JetBatch], str]:
    """Evenly spaced test jets of the run, in batches, and their description; no batches if the jets are missing."""
    files = list(trained.description.get("data", {}).get("test", {}))
    try:
        stores = [JetStore(resolve(file), "test" if store_info(resolve(file)).splits else None) for file in files]
    except StoreError:
        stores = []
    if not stores:
        return [], "no test jets, which are missing,"
    batches, inputs = [], input_names(trained.model)
    for store in stores:
        for column in (column for name in inputs for column in COLUMNS.get(name, ())):
            if column not in store.columns:
                raise ExportError(f"{store.path}: these test jets of the run have no {column} any more; restore them")
    for source in (StoredJets([store]) for store in stores if len(store)):  # stores may differ in classes and weights
        numbers = evenly_spaced(len(source), -(-JETS // len(stores)))
        batches += [source[part.tolist()] for part in np.array_split(numbers, -(-len(numbers) // JETS_AT_ONCE))]
    return batches, f"{sum(map(len, batches))} test jets"
