"""Reader of the top quark tagging reference data (Kasieczka, Plehn, Thompson, Russel; Zenodo 2603256).

pandas wrote these files as PyTables tables. Dataset /table/table has one row per jet: ``values_block_0``, float32
[804], holds E_0, PX_0, PY_0, PZ_0, E_1, ..., PZ_199 in GeV, with zeros in empty slots, and the momentum of the true
top quark; ``values_block_1``, int64 [2], holds ``ttv`` and ``is_signal_new``. Third parties write these columns under
another key, in another order, with other label types, as data columns or with ``format="fixed"``, so columns are found
by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from iagraph.data.jets import Jets, StoreError
from iagraph.data.readers.base import Reader, reading
from iagraph.data.readers.flat import CLASSES, LABEL, flat_jets, momentum_names
from iagraph.data.readers.pandas_frames import Frame, find_frame


class TopTaggingReader(Reader):
    """Jets with ``pt``, ``rapidity``, ``phi`` and ``mass``, which is 0 in the reference data.

    A file may have any number of slots; a particle is any slot with a non-zero component. Columns of the true top
    quark are not read.

    Raises:
        StoreError: there is no pandas table, or a column is missing or not numeric.
    """

    format = "top quark tagging reference data (HDF5)"
    classes = CLASSES

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._frame() as frame:
            self.jets, self._momenta = frame.rows, momentum_names(frame.names)
            frame.check_numbers([*self._momenta, LABEL])

    @contextmanager
    def _frame(self) -> Iterator[Frame]:
        with reading(self.path), h5py.File(self.path, "r") as file:
            name = find_frame(file)
            if name is None:
                raise StoreError("has no table; write it with DataFrame.to_hdf(key='table', format='table')")
            yield Frame(file, name)

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        with self._frame() as frame:
            for begin in range(0, frame.rows, jets_per_part):
                values, label = frame.read([self._momenta, [LABEL]], begin, begin + jets_per_part)
                yield flat_jets(values, label[:, 0], begin)
