"""Numeric tables written by pandas to HDF5 (``DataFrame.to_hdf``), read with h5py in ranges of rows.

With ``format="table"``, a group holds one dataset ``table`` of compound rows. Their fields are blocks of columns of one
type, ``values_block_0``, ..., with column names in the attributes ``values_block_0_kind``, ..., and one field for each
of ``data_columns``. With ``format="fixed"``, a group holds one dataset per type, ``block0_values``, ..., with column
names in ``block0_items``, .... h5py reads whole compound rows as fast as a single field. Nothing is unpickled.
"""

import math
import pickletools
from collections.abc import Iterator, Sequence

import h5py
import numpy as np

from iagraph.data.jets import StoreError

PREFERRED = "table"


def find_frame(file: h5py.File) -> str | None:
    """Name of the group that holds a table, preferably ``table``; None if there is none.

    Raises:
        StoreError: there are several, none of them named ``table``.
    """
    if PREFERRED in file and "table" in file[PREFERRED]:
        return PREFERRED
    found = [name for name in file if isinstance(file.get(name), h5py.Group) and _is_frame(file[name])]
    if PREFERRED in found or len(found) < 2:
        return PREFERRED if PREFERRED in found else next(iter(found), None)
    raise StoreError(f"holds several tables, {', '.join(found)}; write the one to read with key='{PREFERRED}'")


def _is_frame(group: h5py.Group) -> bool:
    return "table" in group or ("axis0" in group and "block0_values" in group)


class Frame:
    """A table in an open file; ``name`` is that of its group.

    Attributes:
        rows: number of rows.
        names: column names.

    Raises:
        StoreError: it is not a pandas table, or lacks rows.
    """

    def __init__(self, file: h5py.File, name: str) -> None:
        self._where = f"/{name}"
        group = file[name]
        self._table: h5py.Dataset | None = None
        self._blocks: dict[str, h5py.Dataset] = {}
        columns: dict[str, list[str]] = {}
        if "table" in group:
            self._table = table = group["table"]
            self._where = f"/{name}/table"
            if not isinstance(table, h5py.Dataset) or table.ndim != 1 or not table.dtype.names:
                raise StoreError(
                    f"has no table {self._where}; write it with DataFrame.to_hdf(key='{name}', format='table')"
                )
            self.rows = len(table)
            columns = {field: _names_of_field(table, field) for field in table.dtype.names if field != "index"}
            self._check_storage(table)
        else:
            self.rows = len(group["axis1"])
            for block in sorted(key.removesuffix("_values") for key in group if key.endswith("_values")):
                self._blocks[block] = group[f"{block}_values"]
                columns[block] = _names_of_items(group[f"{block}_items"])
        self._places = {name: (block, place) for block, names in columns.items() for place, name in enumerate(names)}
        self.names = [name for names in columns.values() for name in names]
        if len(self._places) < len(self.names):
            raise StoreError(f"{self._where} has two columns of one name; rename one")

    def check_numbers(self, names: Sequence[str]) -> None:
        """Raise StoreError unless these columns hold numbers or booleans."""
        for block, name in {self._places[name][0]: name for name in names}.items():
            found = self._blocks[block].dtype if self._table is None else self._table.dtype[block].base
            if self._table is not None and b"category" in _bytes(self._table, f"{block}_meta"):
                raise StoreError(f"column {name} is a pandas category, expected numbers; convert it")
            if found.kind not in "biuf":
                text = "objects or strings" if found.kind in "OSU" else str(found)
                raise StoreError(f"column {name} holds {text}, expected numbers; convert it")
            if self._table is None:
                self._check_block(block)

    def read(self, groups: Sequence[Sequence[str]], begin: int, end: int) -> list[np.ndarray]:
        """Rows begin:end of groups of columns, as one array [rows, columns] per group."""
        rows = None if self._table is None else self._table[begin:end]
        read: dict[str, np.ndarray] = {}
        for block in dict.fromkeys(self._places[name][0] for names in groups for name in names):
            values = self._blocks[block][begin:end] if rows is None else rows[block]
            read[block] = values.reshape(len(values), -1)
        found = []
        for names in groups:
            runs = _runs([self._places[name] for name in names])
            parts = [read[block][:, first:last] for block, first, last in runs]
            found.append(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))
        return found

    def _check_block(self, block: str) -> None:
        """Check shape and storage of a block written with ``format="fixed"``."""
        values, columns = self._blocks[block], sum(place[0] == block for place in self._places.values())
        is_transposed = "transposed" in values.attrs and values.attrs.get_id("transposed").dtype.kind in "iub"
        if values.shape != (self.rows, columns) or not is_transposed:
            raise StoreError(
                f"{self._where}/{block}_values has the shape {values.shape}, expected {self.rows} rows of {columns} "
                "columns; write it with DataFrame.to_hdf(format='table')"
            )
        self._check_storage(values)

    def _check_storage(self, values: h5py.Dataset) -> None:
        need_filters(values)
        if values.chunks:
            chunks = math.prod(-(-size // chunk) for size, chunk in zip(values.shape, values.chunks, strict=True))
            if values.id.get_num_chunks() != chunks:
                # HDF5 would fill missing rows with zeros, which look like empty jets.
                raise StoreError(f"{self._where} lacks some of its {self.rows} rows; download or copy it again")


def _runs(places: Sequence[tuple[str, int]]) -> Iterator[tuple[str, int, int]]:
    """Merge neighbouring places (block, column) into runs (block, begin, end)."""
    block, first, last = "", 0, 0
    for name, place in places:
        if name == block and place == last:
            last += 1
            continue
        if last > first:
            yield block, first, last
        block, first, last = name, place, place + 1
    if last > first:
        yield block, first, last


def _names_of_field(table: h5py.Dataset, field: str) -> list[str]:
    """Column names of a field: its own name, or for a block, the names that pandas recorded.

    The record is a pickled list. Only its strings are extracted, since unpickling could run arbitrary code.
    """
    shape = table.dtype[field].shape
    if not field.startswith("values_block_"):
        return [field] if not shape else []
    if len(shape) > 1:
        raise StoreError(f"{field} of {table.name} is {table.dtype[field]}, expected rows of numbers")
    record = _bytes(table, f"{field}_kind")
    if not record:
        raise StoreError(
            f"{table.name} has no attribute {field}_kind, where pandas records column names; copy the "
            "file with its attributes"
        )
    steps = pickletools.genops(record)
    names = [str(text) for code, text, _ in steps if code.name.endswith(("STRING", "UNICODE", "UNICODE8"))]
    if len(names) != math.prod(shape):
        raise StoreError(f"{field} has {math.prod(shape)} columns, but {len(names)} names; rewrite it")
    return names


def _bytes(table: h5py.Dataset, attribute: str) -> bytes:
    """A fixed-length attribute; empty if absent or of variable length, for which see ``iagraph.data.store``."""
    if attribute in table.attrs and table.attrs.get_id(attribute).dtype.kind == "S":
        found = table.attrs[attribute]
        return found if isinstance(found, bytes) else b""
    return b""


def _names_of_items(items: h5py.Dataset) -> list[str]:
    if not isinstance(items, h5py.Dataset) or items.ndim != 1 or items.dtype.kind != "S":
        raise StoreError(f"{items.name} holds no column names; write it with DataFrame.to_hdf(format='table')")
    need_filters(items)
    return [name.decode() for name in items[:].tolist()]


def need_filters(values: h5py.Dataset) -> None:
    """Ensure that data can be decompressed: the published files use Blosc, which h5py lacks."""
    if not (missing := _missing_filters(values)):
        return
    try:
        import hdf5plugin  # noqa: F401  # registers its filters
    except ImportError as error:
        message = f"{values.file.filename} is compressed with {', '.join(missing)} and needs {error.name}"
        raise ImportError(f"{message}: pip install 'iagraph[data]'") from error
    if missing := _missing_filters(values):
        raise StoreError(
            f"is compressed with {', '.join(missing)}, unknown to hdf5plugin; repack it with Blosc or zlib"
        )


def _missing_filters(values: h5py.Dataset) -> list[str]:
    properties = values.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    return [name.decode() or f"filter {code}" for code, _, _, name in filters if not h5py.h5z.filter_avail(code)]
