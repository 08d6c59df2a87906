"""The jet store: ragged jets (``Jets``) in one HDF5 file, read whole, in parts or jet by jet.

A file holds the group ``particles`` (one flat dataset per column, attribute ``unit``), the group ``jets`` (``offsets``,
``label`` and optionally ``weight``) and the root attributes ``format``, ``version``, ``classes``, ``splits``,
``provenance`` and ``fingerprint``. Datasets are chunked, compressed and checksummed: parts can be read alone, and
damage is detected. :mod:`iagraph.data.writer` writes it.

Strings have a fixed length. HDF5 keeps variable-length strings in a heap without checksums, which the library may
search endlessly if it is damaged, so these are never read. (Version 1 of stores had them.)
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import h5py
import numpy as np

from iagraph.data.classes import ChosenClasses, Classes
from iagraph.data.jets import REQUIRED_COLUMNS, Jets, StoreError
from iagraph.files import explain_os_error, user_path

FORMAT = "iagraph jets"
VERSION = 2
WEIGHT = "jets/weight"
PART = 10_000  # jets per part when files are read or written in parts: about 10 MB
OPEN = 128
"""Largest number of stores kept open per process, the most recently read ones. Systems may allow only 1,024 open files
or fewer.
"""


@dataclass(frozen=True)
class StoreInfo:
    """Metadata of a store: ``fingerprint`` is a SHA-256 over the jets, ``bytes`` the file size, ``weights`` whether its
    jets have weights.
    """

    jets: int
    particles: int
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    splits: dict[str, int]
    provenance: dict[str, Any]
    fingerprint: str
    bytes: int
    weights: bool = False


class Fingerprint:
    """SHA-256 over the classes and one digest per array, each updated as its array grows."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes = json.dumps(list(classes))
        self._digests: dict[str, Any] = {}

    def update(self, name: str, array: np.ndarray) -> None:
        """Add the next values of an array."""
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        self._digests.setdefault(f"{name} {little_endian.dtype.str}", hashlib.sha256()).update(little_endian.data)

    def hexdigest(self) -> str:
        """The fingerprint, over columns in alphabetical order, then offsets, labels and weights."""
        total = hashlib.sha256(self._classes.encode())
        last = {"offsets": 1, "label": 2, WEIGHT: 3}
        for name in sorted(self._digests, key=lambda name: (last.get(name.split()[0], 0), name)):
            total.update(f"{name} {self._digests[name].hexdigest()}\n".encode())
        return total.hexdigest()


class JetStore:
    """A store, or one split of it, whose jets are read on demand.

    The file is opened on the first read, and again in a process that receives an instance. It stays open until
    ``close``, or until 128 other stores have been read, so any number can be used together.

    Args:
        path: the file.
        split: name of a split, for example "train"; None uses all jets.
        columns: columns to read, including the required pt, rapidity, phi and mass; None reads all.
        classes: new classes, each with the stored classes it merges; jets of others are dropped. None keeps all.
        weights: whether to read jet weights, which must then exist; None reads them if they do.

    Raises:
        StoreError: the file is missing, damaged or not a jet store of this version, or lacks the split, a column, a
            class or weights.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        columns: Sequence[str] | None = None,
        classes: Classes | None = None,
        weights: bool | None = None,
    ) -> None:
        self.path = path = user_path(path)
        self.info = info = store_info(path)
        if split is not None and split not in info.splits:
            raise StoreError(f"{path}: no split {split!r}; available: {', '.join(info.splits) or 'none'}")
        self.columns = info.columns if columns is None else tuple(columns)
        if absent := [name for name in self.columns if name not in info.columns]:
            raise StoreError(f"{path}: no column {', '.join(absent)}; available: {', '.join(info.columns)}")
        self.begin, self.end = 0, info.jets
        if split is not None:
            self.end = sum(list(info.splits.values())[: list(info.splits).index(split) + 1])
            self.begin = self.end - info.splits[split]
        if lacking := [name for name in REQUIRED_COLUMNS if name not in self.columns]:
            raise StoreError(f"{path}: columns {', '.join(self.columns)} lack {', '.join(lacking)}; add these")
        if weights and not info.weights:
            raise StoreError(
                f"{path}: its jets have no weights; write them as the weight of Jets, or do not request them"
            )
        self.weights = info.weights if weights is None else weights
        self._opened: dict[str, h5py.Dataset] | None = None
        self._stored_classes = info.classes
        self._chosen = ChosenClasses(
            {name: [name] for name in info.classes} if classes is None else classes, info.classes, path
        )
        self._kept: np.ndarray | None = None
        """Positions of the jets of selected classes; None if all jets are selected."""
        if classes is not None:
            self.info = replace(info, classes=self._chosen.names)
            with closing(self):
                label = self.label()
            if (label < 0).any():
                self._kept = self.begin + np.flatnonzero(label >= 0)

    def __len__(self) -> int:
        return self.end - self.begin if self._kept is None else len(self._kept)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def close(self) -> None:
        """Close the file; the next read reopens it."""
        _recent.pop(self, None)
        if self._opened is not None:
            self._opened["jets/label"].file.close()
            self._opened = None

    def _arrays(self) -> dict[str, h5py.Dataset]:
        if self._opened is None:
            file = h5py.File(self.path, "r")
            names = [f"particles/{name}" for name in self.columns]
            names += ["jets/offsets", "jets/label", *([WEIGHT] if self.weights else [])]
            self._opened = {name: file[name] for name in names}
        _recent.pop(self, None)
        _recent[self] = None
        if len(_recent) > OPEN:
            next(iter(_recent)).close()
        return self._opened

    def read(self, begin: int, end: int) -> Jets:
        """The jets begin:end, validated.

        Raises:
            StoreError: the range is invalid, or the jets are damaged.
        """
        if not 0 <= begin <= end <= len(self):
            raise StoreError(f"{self.path}: no jets {begin}:{end} among the {len(self)}")
        if self._kept is None:
            return self._read(self.begin + begin, self.begin + end)
        places, parts = self._kept[begin:end], []
        while len(places):  # part by part: many jets of other classes may lie in between
            near = places[: np.searchsorted(places, places[0] + PART)]
            parts.append(self._read(int(near[0]), int(near[-1]) + 1))
            places = places[len(near) :]
        return Jets.concatenate(parts or [self._read(self.begin, self.begin)])

    def _read(self, first: int, last: int) -> Jets:
        """The jets of selected classes among first:last of the whole store."""
        with _named_errors(self.path):
            arrays = self._arrays()
            offsets = arrays["jets/offsets"][first : last + 1]
            particles = {name: arrays[f"particles/{name}"][offsets[0] : offsets[-1]] for name in self.columns}
            weight = arrays[WEIGHT][first:last] if self.weights else None
            jets = Jets(particles, offsets - offsets[0], arrays["jets/label"][first:last], self._stored_classes, weight)
        jets.validate(str(self.path), first)
        return self._chosen(jets)

    def parts(self, jets_per_part: int = PART) -> Iterator[Jets]:
        """All jets in order, ``jets_per_part`` at a time."""
        for begin in range(0, len(self), jets_per_part):
            yield self.read(begin, min(begin + jets_per_part, len(self)))

    def label(self) -> np.ndarray:
        """Labels of all jets, int64 [jets]."""
        with _named_errors(self.path):
            label = self._chosen.label(self._arrays()["jets/label"][self.begin : self.end])
        return label if self._kept is None else label[self._kept - self.begin]

    def weight(self) -> np.ndarray | None:
        """Weights of all jets, float32 [jets]; None if not read."""
        if not self.weights:
            return None
        with _named_errors(self.path):
            weight = self._arrays()[WEIGHT][self.begin : self.end]
        return weight if self._kept is None else weight[self._kept - self.begin]

    def counts(self) -> np.ndarray:
        """Number of particles per jet, int64 [jets]."""
        with _named_errors(self.path):
            counts = np.diff(self._arrays()["jets/offsets"][self.begin : self.end + 1])
        return counts if self._kept is None else counts[self._kept - self.begin]


_recent: "WeakKeyDictionary[JetStore, None]" = WeakKeyDictionary()
"""Open stores of this process, least recently read first."""


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Turn any error while reading into a StoreError that names the file."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # on damaged files h5py raises almost anything
        if reason := explain_os_error(error):
            raise StoreError(f"{path}: cannot be read {reason}") from error
        if not h5py.is_hdf5(path):
            raise StoreError(
                f"{path}: no jet store, which is HDF5; convert other formats with iagraph convert"
            ) from error
        raise StoreError(f"{path}: incomplete or damaged ({error}); copy or rewrite the store") from error


def attribute(file: h5py.File, name: str) -> Any:
    """An attribute of a file: a number or a fixed-length string.

    Raises:
        StoreError: the attribute is missing, or of another type.
    """
    if name not in file.attrs:
        raise StoreError(f"{file.filename}: no attribute {name!r}; copy or rewrite the store")
    if file.attrs.get_id(name).dtype.kind not in "iuS":
        raise StoreError(
            f"{file.filename}: attribute {name!r} is not a fixed-length string; if this is a store of a version before "
            f"{VERSION}, recreate it"
        )
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def stated_format(file: h5py.File) -> str | None:
    """The format that a file states, if any."""
    return str(attribute(file, "format")) if "format" in file.attrs else None


def store_info(path: str | Path) -> StoreInfo:
    """Metadata of a store, without reading the particles; raises StoreError like ``read_store``."""
    path = user_path(path)
    with _named_errors(path):
        if not path.is_file():
            raise StoreError(
                f"{path}: no such file; check the path, or make it with iagraph generate, download or convert"
            )
    with _named_errors(path), h5py.File(path, "r") as file:
        found = stated_format(file)
        if found != FORMAT:
            raise StoreError(f"{path}: format is {found!r}, expected {FORMAT!r}; convert it with iagraph convert")
        if (version := attribute(file, "version")) != VERSION:
            raise StoreError(f"{path}: version is {version}, expected {VERSION}; update iagraph")
        info = StoreInfo(
            jets=file["jets/label"].shape[0],
            particles=int(file["jets/offsets"][-1]),
            classes=tuple(json.loads(attribute(file, "classes"))),
            columns=tuple(file["particles"]),
            splits=json.loads(attribute(file, "splits")),
            provenance=json.loads(attribute(file, "provenance")),
            fingerprint=attribute(file, "fingerprint"),
            bytes=path.stat().st_size,
            weights=WEIGHT in file,
        )
        lengths = {"jets/offsets": info.jets + 1} | ({WEIGHT: info.jets} if info.weights else {})
        lengths |= {f"particles/{name}": info.particles for name in info.columns}
        for name, expected in lengths.items():
            if file[name].shape[0] != expected:
                raise StoreError(f"{path}: {name} has {file[name].shape[0]} values, expected {expected}; rewrite it")
    if info.splits and sum(info.splits.values()) != info.jets:
        raise StoreError(f"{path}: splits {info.splits} do not add up to {info.jets} jets; rewrite it")
    return info


def read_store(path: str | Path, split: str | None = None) -> Jets:
    """Read a whole store, or one split of it, and validate every value.

    Args:
        path: the file.
        split: name of a split, for example "train"; None reads all jets and also verifies the fingerprint.

    Raises:
        StoreError: the file is missing, damaged or not a jet store of this version, or lacks the split.
    """
    with closing(JetStore(path, split)) as store:
        jets = store.read(0, len(store))
    if split is None:
        found = Fingerprint(jets.classes)
        for name, array in [*jets.particles.items(), ("offsets", jets.offsets), ("label", jets.label)]:
            found.update(name, array)
        if jets.weight is not None:
            found.update(WEIGHT, jets.weight)
        if found.hexdigest() != store.info.fingerprint:
            raise StoreError(f"{path}: the jets do not match the recorded fingerprint; copy or rewrite the store")
    return jets
