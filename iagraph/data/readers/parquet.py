"""Parquet files, one row per jet, read batch by batch: weaver's converters write a whole file as one row group.

Memory holds one page, usually at most 1 MB, of each column that is read; 800 flat columns take the most.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.data.jets import StoreError
from iagraph.data.readers.base import reading, refuse
from iagraph.data.readers.columns import ColumnPart, Ragged

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet
except ImportError as error:
    raise ImportError(f"reading parquet files needs {error.name}: pip install 'iagraph[data]'") from error

BUFFER = 1 << 16  # bytes read ahead for each of up to 800 columns


class ParquetTable:
    """The table in a Parquet file; implements :class:`~iagraph.data.readers.columns.Table`."""

    what, column = "the table", ("column", "columns")

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), self._open() as file:
            self._schema, self.rows = file.schema_arrow, file.metadata.num_rows
            self.names = self._schema.names
            if len(set(self.names)) < len(self.names):
                raise StoreError("two columns have one name; rename one")

    @contextmanager
    def _open(self) -> Iterator[Any]:
        options = {"pre_buffer": False, "buffer_size": BUFFER, "page_checksum_verification": True}
        with self.path.open("rb") as binary, parquet.ParquetFile(binary, **options) as file:
            yield file

    def types(self, names: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Kind of each column ("number", "list" or "other") and its Arrow type, by name."""
        fields = {name: self._schema.field(name).type for name in names}
        return {name: (_kind(found), str(found)) for name, found in fields.items()}

    def parts(self, numbers: Sequence[str], lists: Sequence[str], jets_per_part: int) -> Iterator[ColumnPart]:
        """The columns ``numbers`` and ``lists`` for all jets in order, ``jets_per_part`` at a time."""
        begin = 0
        with self._open() as file:
            for batch in file.iter_batches(jets_per_part, columns=[*numbers, *lists], use_threads=False):
                yield ColumnPart(
                    {name: _numbers(batch.column(name), name, begin) for name in numbers},
                    {name: _lists(batch.column(name), name, begin) for name in lists},
                )
                begin += len(batch)


def _is_number(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _kind(kind: Any) -> str:
    if _is_number(kind):
        return "number"
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return "list" if is_list and _is_number(kind.value_type) else "other"


def _numbers(column: Any, name: str, begin: int) -> np.ndarray:
    if column.null_count:
        refuse(column.is_null().to_numpy(zero_copy_only=False), lambda i: f"jet {begin + i}: {name} is null")
    return column.to_numpy(zero_copy_only=False)


def _lists(column: Any, name: str, begin: int) -> Ragged:
    counts = _numbers(pc.list_value_length(column), name, begin).astype(np.int64)
    values = column.flatten()
    if values.null_count:
        jet = np.repeat(np.arange(len(counts)), counts)
        is_null = values.is_null().to_numpy(zero_copy_only=False)
        refuse(is_null, lambda i: f"jet {begin + jet[i]}: {name} holds null")
    return Ragged(counts, values.to_numpy(zero_copy_only=False))
