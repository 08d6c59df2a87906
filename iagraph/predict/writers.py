"""Files of scores: parquet, HDF5, CSV and ROOT, written part by part; a file is complete or absent.

All have the same columns: ``file`` and ``jet``, the indices of the file and of the jet in it; ``score_CLASS``, the
probability of each class; and, if any file has a class of the model, ``label``, the index of the true class, or -1 if
the model does not have it. Except in CSV, metadata give the class names and, from ``iagraph predict``, the model and
the files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from iagraph.data import StoreError
from iagraph.files import replaced, user_path
from iagraph.predict.predictors import Scores

Columns = dict[str, NDArray[np.generic]]
Append = Callable[[Columns], None]
TYPES = {"file": np.int32, "jet": np.int64, "label": np.int32}
"""Types of columns; scores are float32."""


def write_scores(
    path: str | Path, parts: Iterable[Scores], classes: Sequence[str], about: Mapping[str, object], labelled: bool
) -> None:
    """Write scores in the format given by the suffix of the file, one of :data:`FORMATS`.

    Args:
        path: the file; its folder must exist. On error, an existing file is unchanged.
        parts: the scores.
        classes: class names.
        about: further metadata, such as the names of the files.
        labelled: whether to write labels.

    Raises:
        ImportError: the format needs a package that is not installed.
        OSError: the file cannot be written.
    """
    path = user_path(path)
    names = ["file", "jet", *(f"score_{name}" for name in classes), *(["label"] if labelled else [])]
    types = {name: np.dtype(TYPES.get(name, np.float32)) for name in names}
    text = json.dumps({"classes": list(classes), **about})
    with replaced(path) as file, FORMATS[path.suffix](Path(file.name), types, text) as append:
        for part in parts:
            jets = len(part.probabilities)
            values = [np.full(jets, part.file), np.arange(part.first, part.first + jets), *part.probabilities.T]
            values += [part.label] if labelled else []
            append({name: each.astype(types[name]) for name, each in zip(names, values, strict=True)})


def check_format(path: Path) -> None:
    """Check that a file of scores can have this name.

    Raises:
        StoreError: the suffix is unknown, or the folder does not exist.
        ImportError: its format needs a package that is not installed.
    """
    if path.suffix not in FORMATS:
        raise StoreError(f"{path}: should end in {', '.join(FORMATS)}, which sets the format")
    if not path.parent.is_dir():
        raise StoreError(f"{path.parent}: no such folder; make it first")
    package = {".parquet": "pyarrow", ".root": "uproot"}.get(path.suffix)
    try:
        __import__(package or "h5py")
    except ImportError as error:
        raise ImportError(f"writing {path.suffix[1:]} needs {package}: pip install 'iagraph[data]'") from error


@contextmanager
def _csv(path: Path, types: dict[str, np.dtype], about: str) -> Iterator[Append]:
    formats = ["%d" if kind.kind == "i" else "%.9g" for kind in types.values()]  # nine digits identify a float32
    with path.open("w", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerow(types)  # names of classes may have commas and quotes

        def append(columns: Columns) -> None:
            rows = zip(*(column.tolist() for column in columns.values()), strict=True)
            line = ",".join(formats) + "\n"
            file.writelines(line % row for row in rows)

        yield append


@contextmanager
def _hdf5(path: Path, types: dict[str, np.dtype], about: str) -> Iterator[Append]:
    with h5py.File(path, "w") as file:
        file.attrs["about"] = about
        for name, kind in types.items():
            file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(10_000,), compression="gzip")

        def append(columns: Columns) -> None:
            for name, column in columns.items():
                end = len(file[name])
                file[name].resize(end + len(column), axis=0)
                file[name][end:] = column

        yield append


@contextmanager
def _parquet(path: Path, types: dict[str, np.dtype], about: str) -> Iterator[Append]:
    import pyarrow
    from pyarrow import parquet

    fields = [(name, pyarrow.from_numpy_dtype(kind)) for name, kind in types.items()]
    schema = pyarrow.schema(fields, {"iagraph": about})
    with parquet.ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(pyarrow.table(columns, schema))


@contextmanager
def _root(path: Path, types: dict[str, np.dtype], about: str) -> Iterator[Append]:
    import uproot

    with uproot.recreate(path) as file:
        file["about"] = about
        tree = file.mktree("scores", types)
        yield tree.extend


FORMATS = {".parquet": _parquet, ".h5": _hdf5, ".csv": _csv, ".root": _root}
"""Writers by suffix."""
