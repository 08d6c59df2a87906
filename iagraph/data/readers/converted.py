"""Third-party parquet versions of the public sets, recognised by their columns.

Files from weaver's converters (``convert_top_datasets.py`` and ``convert_qg_datasets.py`` of the Particle Transformer)
hold lists ``part_px``, ``part_py``, ``part_pz``, ``part_energy``, and ``label``, which is 1 for top or quark;
quark/gluon files also hold ``part_pid``. They lack the last jet of each published file. Particles of quark/gluon jets
are massless there; their pseudorapidity is the published rapidity, and is read as rapidity. Copies of the top quark
tagging reference on public hubs hold its flat columns.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.readers.base import Reader, reading
from iagraph.data.readers.columns import check_columns
from iagraph.data.readers.flat import CLASSES, LABEL, flat_jets, momentum_names
from iagraph.data.readers.mapped import BranchMap, Label, MappedReader, Particles
from iagraph.data.readers.parquet import ParquetTable

MOMENTUM = Particles(px="part_px", py="part_py", pz="part_pz", energy="part_energy")
TOP = BranchMap(particles=MOMENTUM, label=Label(branch="label", classes=dict(enumerate(CLASSES))))
QUARK_GLUON = BranchMap(
    particles=MOMENTUM.model_copy(update={"pid": "part_pid", "massless": True}),
    label=Label(branch="label", classes={0: "gluon", 1: "quark"}),
)


class FlatParquetReader(Reader):
    """The top quark tagging reference as a flat parquet table, interpreted as in ``TopTaggingReader``.

    Raises:
        StoreError: a column is missing or not numeric.
    """

    format = "top quark tagging reference data (parquet)"
    classes = CLASSES

    def __init__(self, table: ParquetTable) -> None:
        self.path, self.jets, self._table = table.path, table.rows, table
        with reading(table.path):
            self._momenta = momentum_names(table.names)
            check_columns(table, [*self._momenta, LABEL], [], "write numbers")

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        begin = 0
        for part in self._table.parts([*self._momenta, LABEL], [], jets_per_part):
            values = np.stack([part.numbers[name] for name in self._momenta], axis=1)
            yield flat_jets(values, part.numbers[LABEL], begin)
            begin += len(values)


def open_parquet(path: Path) -> Reader:
    """The reader for a parquet file.

    Raises:
        StoreError: the file is damaged, or its layout is unknown.
    """
    table = ParquetTable(path)
    names = set(table.names)
    if {"label", *MOMENTUM.columns.values()} <= names:
        branches, data = (QUARK_GLUON, "quark/gluon jets") if "part_pid" in names else (TOP, "top tagging")
        return MappedReader(table, branches, f"{data} of weaver's converters (parquet)")
    if LABEL in names or "E_0" in names:
        return FlatParquetReader(table)
    listed = ", ".join(table.names[:8]) + (", ..." if len(table.names) > 8 else "")
    raise StoreError(
        f"{path}: parquet with the columns {listed or 'none'}; expected those of weaver's converters (label, part_px, "
        "part_py, part_pz, part_energy) or of the top quark tagging reference (E_0, PX_0, ...); for others, "
        "name the columns with --map"
    )
