"""Atomic, incremental writing of jet stores (see :mod:`iagraph.data.store`)."""

import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from traceback import clear_frames
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import FORMAT, VERSION, WEIGHT, Fingerprint
from iagraph.files import explain_os_error, user_path

RESERVED = ("label", "offsets")  # not column names
UNITS = {"pt": "GeV", "rapidity": "1", "phi": "rad", "mass": "GeV", "pid": "PDG id"}
UNITS |= dict.fromkeys(("d0", "d0_error", "dz", "dz_error"), "mm")
# Values per chunk: small enough to read a few hundred jets without many neighbours, large enough to compress well.
CHUNK = {"particles": 8192, "jets": 1024}
LEVEL = 4  # of gzip: files 1 % larger than at the highest level, written four times as fast, read equally fast


class StoreWriter:
    """Incremental writer of one store, in constant memory: ``with StoreWriter(path, classes) as writer: ...``.

    The file appears when the block ends; after an error, no file appears and an older one is unchanged. The same
    sequence of :meth:`append` calls, with the same classes and provenance, gives identical bytes.

    Args:
        path: the file; its folder must exist.
        classes: class names.
        provenance: origin of the jets, as JSON; NumPy numbers and arrays, paths and dates are converted. Written last,
            so it may be extended until then.

    Raises:
        StoreError: provenance, classes, jets or splits are invalid, nothing was appended, or the file cannot be
            written.
    """

    def __init__(self, path: str | Path, classes: tuple[str, ...], provenance: dict[str, Any] | None = None) -> None:
        self.path, self.classes, self.provenance = user_path(path), tuple(classes), provenance or {}
        self._plain_provenance()
        if wrong := [name for name in self.classes if not isinstance(name, str)]:
            raise StoreError(f"{path}: class {wrong[0]!r} is not a string; give class names as strings")
        self.jets = self.particles = 0
        self.splits: dict[str, int] = {}
        self._temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.tmp")
        self._arrays: dict[str, h5py.Dataset] = {}
        self._fingerprint = Fingerprint(self.classes)

    def __enter__(self) -> "StoreWriter":
        try:
            self._sink = _Sink(self._temporary)
            # This layout has checksums for metadata too; fixed, unlike "latest", it gives equal bytes for equal jets.
            self._file = h5py.File(self._sink, "w", libver=("v110", "v110"))
        except BaseException as error:  # Ctrl-C too: __exit__ will not run
            clear_frames(error.__traceback__)  # frees a half-made h5py file, which closes it while the sink is open
            if hasattr(self, "_sink"):
                self._sink.close()
                self._temporary.unlink()
            if isinstance(error, OSError):
                raise self._unwritable(error) from error
            raise
        return self

    def append(self, jets: Jets, split: str | None = None) -> None:
        """Write the next jets.

        Args:
            jets: the jets, with the same classes and columns as earlier ones; validated first.
            split: their split; jets of a split are contiguous, and either all jets have a split or none do.
        """
        for name in jets.particles:
            if not _is_valid_name(name):
                raise StoreError(
                    f"{self.path}: a column cannot be named {name!r}; use printable text without '/', other "
                    f"than {', '.join(RESERVED)} and '.'"
                )
        jets.validate(f"jets for {self.path}", self.jets)
        if jets.classes != self.classes:
            raise StoreError(f"{self.path}: classes {jets.classes} differ from those of the store, {self.classes}")
        if (split is None and self.splits) or (split is not None and self.jets and not self.splits):
            raise StoreError(f"{self.path}: some jets have a split and some have none; name it for all or for none")
        if split in self.splits and split != list(self.splits)[-1]:
            raise StoreError(
                f"{self.path}: more jets of split {split!r} after {list(self.splits)[-1]!r}; append split by split"
            )
        offsets = jets.offsets[1:] + self.particles
        if not self._arrays:
            offsets = np.concatenate([jets.offsets[:1], offsets])
        arrays = {f"particles/{name}": column for name, column in jets.particles.items()}
        weights = {} if jets.weight is None else {WEIGHT: jets.weight}
        self._write(arrays | {"jets/offsets": offsets, "jets/label": jets.label} | weights)
        self.jets, self.particles = self.jets + len(jets), self.particles + int(jets.offsets[-1])
        if split is not None:
            self.splits[split] = self.splits.get(split, 0) + len(jets)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with suppress(Exception):  # after an error, HDF5 may fail to close the discarded file
                self._file.close()
            self._sink.close()
            with suppress(OSError):  # nothing to remove on success
                self._temporary.unlink()

    def _write(self, arrays: dict[str, np.ndarray]) -> None:
        found = {name: array.dtype.name for name, array in arrays.items()}
        expected = {name: array.dtype.name for name, array in self._arrays.items()} or found
        if found != expected:
            raise StoreError(f"{self.path}: columns {found} differ from those of earlier jets, {expected}")
        with self._reported():
            for name, array in arrays.items():
                if name not in self._arrays:
                    self._arrays[name] = self._create(name, array)
                written = len(self._arrays[name])
                self._arrays[name].resize((written + len(array),))
                self._arrays[name][written:] = array
                self._fingerprint.update(name if name == WEIGHT else name.partition("/")[2], array)

    def _plain_provenance(self) -> Any:
        try:
            return _plain(self.provenance, "provenance")
        except TypeError as error:
            raise StoreError(
                f"{self.path}: {error}, which JSON cannot hold; give numbers, strings, lists or mappings of these"
            ) from None

    def _create(self, name: str, array: np.ndarray) -> h5py.Dataset:
        group, _, column = name.partition("/")
        # Shuffled bytes compress better, except for columns with few distinct values (species, their masses).
        shuffle = len(np.unique(array[: CHUNK[group]])) > 256
        filters = {"compression": "gzip", "compression_opts": LEVEL, "shuffle": shuffle, "fletcher32": True}
        shape = {"shape": (0,), "maxshape": (None,), "chunks": (CHUNK[group],), "dtype": array.dtype}
        dataset = self._file.create_dataset(name, **shape, **filters, track_times=False)
        if group == "particles":
            dataset.attrs["unit"] = np.bytes_(UNITS.get(column, "unknown"))
        return dataset

    def _finish(self) -> None:
        if not self._arrays:
            raise StoreError(f"{self.path}: nothing to write; append jets first")
        with self._reported():
            self._file.attrs["version"] = VERSION
            texts = {"classes": json.dumps(self.classes), "splits": json.dumps(self.splits)}
            texts |= {"format": FORMAT, "fingerprint": self._fingerprint.hexdigest()}
            texts |= {"provenance": json.dumps(self._plain_provenance(), sort_keys=True)}
            self._file.attrs.update({name: np.bytes_(text) for name, text in texts.items()})
            self._file.close()
            self._sink.sync()
        with self._reported():
            self._temporary.replace(self.path)

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Turn a failed write into a StoreError, whatever HDF5 raises."""
        try:
            yield
        except Exception as error:
            if self._sink.error or isinstance(error, OSError):
                raise self._unwritable(self._sink.error or error) from error
            raise
        if self._sink.error:
            raise self._unwritable(self._sink.error)

    def _unwritable(self, error: Exception) -> StoreError:
        reason = explain_os_error(error) or f"({error}); check folder, permissions and free space"
        return StoreError(f"{self.path}: cannot write {reason}")


def _is_valid_name(name: Any) -> bool:
    """Whether a column can have this name: '/' would create groups, and some names are reserved."""
    return isinstance(name, str) and name.isprintable() and "/" not in name and name not in (*RESERVED, "", ".")


def _plain(value: Any, key: str) -> Any:
    """Convert a value for JSON; TypeError names the key of an unsupported one."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufUM":
        return _plain(value.tolist(), key)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        if wrong := [each for each in value if not isinstance(each, str)]:
            raise TypeError(f"{key} has the key {wrong[0]!r} of type {type(wrong[0]).__name__}")
        return {name: _plain(each, f"{key}[{name!r}]") for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{key}[{number}]") for number, each in enumerate(value)]
    raise TypeError(f"{key} is of type {type(value).__name__}")


class _Sink(io.FileIO):
    """The file beneath HDF5, since HDF5 reports a full disk late and from destructors, where it cannot be handled.

    The first error is hidden from HDF5 and kept for ``StoreWriter``; later writes are dropped.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.error is None and rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0

    def sync(self) -> None:
        """Flush to disk."""
        try:
            os.fsync(self.fileno())
        except OSError as error:
            self.error = self.error or error


def write_store(
    path: str | Path, jets: Jets, *, splits: dict[str, int] | None = None, provenance: dict[str, Any] | None = None
) -> None:
    """Write jets to one file atomically: after an error, an older file at ``path`` is unchanged.

    Args:
        path: the file; its folder must exist.
        jets: the jets; validated first.
        splits: number of jets per split, by name, in the order of the jets; they must add up to all jets.
        provenance: origin of the jets, as in ``StoreWriter``.

    Raises:
        StoreError: the jets, splits or provenance are invalid, or the file cannot be written.
    """
    jets.validate(f"jets for {path}")
    counts = {name: int(count) for name, count in (splits or {}).items()}
    if counts and (sum(counts.values()) != len(jets) or min(counts.values()) < 0):
        raise StoreError(f"{path}: splits {counts}, expected counts that add up to {len(jets)} jets; correct them")
    with StoreWriter(path, jets.classes, provenance) as writer:
        begin = 0
        for name, count in counts.items() or [(None, len(jets))]:
            writer.append(jets.part(begin, begin + count), name)
            begin += count
