"""Reader of EnergyFlow's quark and gluon jets (Komiske, Metodiev, Thaler; Zenodo 3164691 and 3066475).

An npz file holds ``X``, float64 [jets, slots, 4] = (pt in GeV, rapidity, phi, PDG id), zeros in empty slots, and ``y``,
1 for quark and 0 for gluon jets. Both are streamed from the archive: for 100,000 jets, X would take about 450 MB.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import Reader, reading, refuse

BLOCK = 1 << 20  # bytes

MASSES = {
    11: 0.00051099895,  # electron
    12: 0.0,  # neutrinos
    13: 0.1056583755,  # muon
    14: 0.0,
    15: 1.77693,  # tau
    16: 0.0,
    22: 0.0,  # photon
    111: 0.1349768,  # pi0
    130: 0.497611,  # K0 long
    211: 0.13957039,  # pi+
    310: 0.497611,  # K0 short
    321: 0.493677,  # K+
    2112: 0.93956542,  # neutron
    2212: 0.93827209,  # proton
    3112: 1.197449,  # Sigma-
    3122: 1.115683,  # Lambda
    3222: 1.18937,  # Sigma+
    3312: 1.32171,  # Xi-
    3322: 1.31486,  # Xi0
    3334: 1.67245,  # Omega-
}
"""Masses in GeV by absolute PDG id, from the Review of Particle Physics, Phys. Rev. D 110 (2024) 030001."""

_SPECIES = np.array(list(MASSES))
_MASSES = np.array(list(MASSES.values()), np.float32)


class EnergyFlowReader(Reader):
    """Jets with ``pt``, ``rapidity``, ``phi`` as in the file, ``mass`` by species, and ``pid``.

    If X has three columns, species are unknown: there is no ``pid``, and particles count as massless.

    Raises:
        StoreError: the archive or its arrays have an unexpected layout.
    """

    format = "EnergyFlow quark/gluon jets (npz)"
    classes = ("gluon", "quark")

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path), zipfile.ZipFile(path) as archive:
            if missing := {"X.npy", "y.npy"} - set(archive.namelist()):
                arrays = ", ".join(Path(name).stem for name in archive.namelist()) or "nothing"
                names = " and ".join(Path(name).stem for name in sorted(missing))
                raise StoreError(f"holds {arrays}, expected EnergyFlow's arrays X and y; add {names}")
            with _arrays(archive) as (x, y):
                if len(x.shape) != 3 or x.shape[2] not in (3, 4) or x.dtype.kind != "f":
                    raise StoreError(
                        f"X is {x.dtype} of shape {x.shape}, expected floats of shape (jets, slots, 4): pt, rapidity, "
                        "phi, PDG id, or 3 without the PDG id"
                    )
                if y.shape != x.shape[:1] or y.dtype.kind not in "biuf":
                    expected = f"expected {x.shape[:1]} numbers, one per jet of X"
                    raise StoreError(f"y is {y.dtype} of shape {y.shape}, {expected}")
                self.jets = x.shape[0]

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        with zipfile.ZipFile(self.path) as archive, _arrays(archive) as (x, y):
            jets = x.shape[0]
            for begin in range(0, jets, jets_per_part):
                rows = min(jets_per_part, jets - begin)
                yield self._jets(x.read(rows), y.read(rows), begin)

    @np.errstate(over="ignore")  # float32 overflows to infinity, which validation rejects
    def _jets(self, x: np.ndarray, y: np.ndarray, begin: int) -> Jets:
        refuse((y != 0) & (y != 1), lambda i: f"jet {begin + i}: y = {y[i]}, expected 0 or 1; correct it")
        jet, slot = np.nonzero(x.any(axis=2))
        particle = x[jet, slot]
        refuse(
            particle[:, 0].astype(np.float32) == 0,
            lambda i: (
                f"jet {begin + jet[i]}, particle {slot[i]}: {particle[i].tolist()}, expected pt > 0, or all "
                "zeros in an empty slot; correct it"
            ),
        )
        columns = dict(zip(("pt", "rapidity", "phi"), particle[:, :3].T.astype(np.float32), strict=True))
        columns["mass"] = np.zeros(len(jet), np.float32)
        if x.shape[2] == 4:
            pid = particle[:, 3]
            index = np.minimum(np.searchsorted(_SPECIES, np.abs(pid)), len(_SPECIES) - 1)
            refuse(
                np.abs(pid) != _SPECIES[index],
                lambda i: (
                    f"jet {begin + jet[i]}, particle {slot[i]}: unknown species {pid[i]:g}, expected a PDG id of "
                    f"{', '.join(map(str, MASSES))} or an antiparticle"
                ),
            )
            columns |= {"mass": _MASSES[index], "pid": pid.astype(np.int32)}
        offsets = offsets_of(np.bincount(jet, minlength=len(x)))
        return Jets(columns, offsets, y.astype(np.int64), self.classes)


@contextmanager
def _arrays(archive: zipfile.ZipFile) -> Iterator[list[_Stream]]:
    """The arrays X and y of an npz file."""
    with archive.open("X.npy") as x, archive.open("y.npy") as y:
        yield [_Stream(file, name, archive.getinfo(f"{name}.npy").file_size) for file, name in ((x, "X"), (y, "y"))]


class _Stream:
    """An array in an npz file, read sequentially; the archive verifies its checksum at the end."""

    def __init__(self, file: IO[bytes], name: str, size: int) -> None:
        self._file = file
        old = np.lib.format.read_magic(self._file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        self.shape, fortran_order, self.dtype = read_header(self._file)
        if self.dtype.hasobject:
            raise StoreError(f"{name} holds Python objects, expected numbers; pad the jets with zeros into one array")
        if fortran_order and len(self.shape) > 1:
            raise StoreError(f"{name} is in Fortran order, expected C order; write numpy.ascontiguousarray({name})")
        found = size - self._file.tell()
        expected = math.prod(self.shape) * self.dtype.itemsize
        if found != expected:
            raise StoreError(f"{name} has {found} bytes, expected {expected} for shape {self.shape}; copy it again")

    def read(self, rows: int) -> np.ndarray:
        """The next rows along the first axis."""
        array = np.empty((rows, *self.shape[1:]), self.dtype)
        view = array.reshape(-1).view(np.uint8).data
        for begin in range(0, len(view), BLOCK):  # zipfile buffers as much compressed data as is requested
            end = min(begin + BLOCK, len(view))
            view[begin:end] = self._file.read(end - begin)
        return array
