"""Reader of the top quark tagging reference data (Kasieczka, Plehn, Thompson, Russel; Zenodo 2603256).

pandas wrote these files as PyTables tables. Dataset /table/table has one row per jet: `values_block_0`, float32 [804],
holds E_0, PX_0, PY_0, PZ_0, E_1, ..., PZ_199 in GeV, zeros where there is no particle, and the momentum of the true top
quark; `values_block_1`, int64 [2], holds `ttv` and `is_signal_new`. h5py reads whole rows, which takes no longer than
one field of them, and nothing is unpickled.
"""

import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import Reader, reading, refuse
from iagraph.data.readers.cartesian import momentum_columns

TABLE = "table/table"
MOMENTA, FLAGS = "values_block_0", "values_block_1"
LABEL = "is_signal_new"
COMPONENTS = ("E", "PX", "PY", "PZ")


class TopTaggingReader(Reader):
    """Jets with `pt`, `rapidity`, `phi` and `mass`, which is 0 in the reference data; the number of slots may differ.

    A particle is a slot of a jet in which some number is not zero, wherever it stands. Columns of the true top quark
    are not read.

    Raises:
        StoreError: If the table is not of this layout.
    """

    format = "top quark tagging reference data (HDF5)"
    classes = ("QCD", "top")

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._table() as table:
            self.jets = len(table)
            self._slots, self._label = _layout(table)

    @contextmanager
    def _table(self) -> Iterator[h5py.Dataset]:
        with reading(self.path), h5py.File(self.path, "r") as file:
            table = file.get(TABLE)
            if not isinstance(table, h5py.Dataset) or table.ndim != 1 or not table.dtype.names:
                raise StoreError(f"has no table /{TABLE}; write it with DataFrame.to_hdf(key='table', format='table')")
            _need_filters(table)
            if table.chunks and table.id.get_num_chunks() != -(-len(table) // table.chunks[0]):
                # HDF5 would fill in zeros, which are jets without particles.
                raise StoreError(f"/{TABLE} lacks rows of its {len(table)}; download or copy it anew")
            yield table

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        with self._table() as table:
            for begin in range(0, len(table), jets_per_part):
                yield self._jets(table[begin : begin + jets_per_part], begin)

    def _jets(self, rows: np.ndarray, begin: int) -> Jets:
        vectors = rows[MOMENTA][:, : 4 * self._slots].reshape(len(rows), self._slots, 4)
        is_particle = (vectors[..., 0] != 0) | (vectors[..., 1] != 0) | (vectors[..., 2] != 0) | (vectors[..., 3] != 0)
        jet, slot = np.nonzero(is_particle)
        energy, px, py, pz = vectors[jet, slot].T
        particles = momentum_columns(px, py, pz, energy, lambda i: f"jet {begin + jet[i]}, particle {slot[i]}")
        label = rows[FLAGS][:, self._label]
        refuse(
            (label != 0) & (label != 1), lambda i: f"jet {begin + i}: {LABEL} = {label[i]}, expected 0 or 1; correct it"
        )
        offsets = offsets_of(np.bincount(jet, minlength=len(rows)))
        return Jets(particles, offsets, label.astype(np.int64), self.classes)


def _layout(table: h5py.Dataset) -> tuple[int, int]:
    """The number of particle slots, and where the label stands in its block."""
    columns, flags = (_column_names(table, block) for block in (MOMENTA, FLAGS))
    slots = max(1, sum(name.startswith("E_") for name in columns))
    expected = [f"{component}_{slot}" for slot in range(slots) for component in COMPONENTS]
    for number, name in enumerate(expected):
        found = columns[number] if number < len(columns) else "nothing"
        if found != name:
            raise StoreError(
                f"column {number} of {MOMENTA} is {found}, expected {name}; write the columns as E_0, PX_0, PY_0, "
                f"PZ_0, E_1, ..."
            )
    if LABEL not in flags:
        raise StoreError(f"{FLAGS} has columns {', '.join(flags)}, expected {LABEL} among them")
    return slots, flags.index(LABEL)


def _column_names(table: h5py.Dataset, block: str) -> list[str]:
    """The columns of a block of equal types, as pandas recorded them.

    The record is a pickled list. Its strings are read off; unpickling could run any code that a file asks for.
    """
    found = table.dtype[block] if block in table.dtype.names else np.dtype("O")
    if len(found.shape) != 1 or found.base.kind not in "iuf":
        raise StoreError(f"/{TABLE} has {table.dtype}, expected rows of numbers named {MOMENTA} and {FLAGS}")
    kind = f"{block}_kind"
    record = table.attrs[kind] if kind in table.attrs and table.attrs.get_id(kind).dtype.kind == "S" else None
    if not isinstance(record, bytes):  # texts of variable length are not read: see `iagraph.data.store`
        raise StoreError(
            f"/{TABLE} has no attribute {kind}, in which pandas records the order of the columns; copy the file "
            f"with its attributes"
        )
    steps = pickletools.genops(record)
    names = [str(text) for code, text, _ in steps if code.name.endswith(("STRING", "UNICODE", "UNICODE8"))]
    if len(names) != found.shape[0]:
        raise StoreError(f"{block} has {found.shape[0]} columns, but {len(names)} names; write it anew")
    return names


def _need_filters(table: h5py.Dataset) -> None:
    """Make sure that the table can be uncompressed: the published files use Blosc, which h5py does not bring."""
    if not (missing := _missing_filters(table)):
        return
    try:
        import hdf5plugin  # noqa: F401  # importing it makes its filters known
    except ImportError as error:
        message = f"{table.file.filename} is compressed with {', '.join(missing)} and needs {error.name}"
        raise ImportError(f"{message}: pip install 'iagraph[data]'") from error
    if missing := _missing_filters(table):
        raise StoreError(
            f"is compressed with {', '.join(missing)}, unknown to hdf5plugin; repack it with Blosc or zlib"
        )


def _missing_filters(table: h5py.Dataset) -> list[str]:
    properties = table.id.get_create_plist()
    filters = [properties.get_filter(number) for number in range(properties.get_nfilters())]
    return [name.decode() or f"filter {code}" for code, _, _, name in filters if not h5py.h5z.filter_avail(code)]
