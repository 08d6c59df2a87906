"""The jet store: ragged jets (`Jets`) in one HDF5 file.

A file holds group `particles` (one flat dataset per column, attribute `unit`), group `jets` (`offsets`, `label`) and
the root attributes `format`, `version`, `classes`, `splits`, `provenance` and `fingerprint`. The datasets are chunked,
compressed and checksummed: a part is read without the rest, and damage is noticed. Equal jets give equal bytes.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from iagraph.data.jets import Jets, StoreError

FORMAT = "iagraph jets"
VERSION = 1
UNITS = {"pt": "GeV", "rapidity": "1", "phi": "rad", "mass": "GeV", "pid": "PDG id"}
CHUNK = 65536  # values per chunk: 256 kB, small enough to read a few jets cheaply, large enough to compress well


@dataclass(frozen=True)
class StoreInfo:
    """What a store says about itself: `fingerprint` is a SHA-256 over the jets, `bytes` the size of the file."""

    jets: int
    particles: int
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    splits: dict[str, int]
    provenance: dict[str, Any]
    fingerprint: str
    bytes: int


def _fingerprint(jets: Jets) -> str:
    """SHA-256 over one digest per array: a writer in parts can feed each of them as its array grows."""
    total = hashlib.sha256(json.dumps(jets.classes).encode())
    for name, array in [*sorted(jets.particles.items()), ("offsets", jets.offsets), ("label", jets.label)]:
        little_endian = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        digest = hashlib.sha256(little_endian.data).hexdigest()
        total.update(f"{name} {little_endian.dtype.str} {digest}\n".encode())
    return total.hexdigest()


def write_store(
    path: str | Path, jets: Jets, *, splits: dict[str, int] | None = None, provenance: dict[str, Any] | None = None
) -> None:
    """Write jets to one file, whole or not at all: after an error an older file at `path` is as it was.

    Args:
        path: The file; its folder must exist.
        jets: What to write; validated first.
        splits: Name and number of jets of each part, in the order of the jets; they add up to all jets.
        provenance: Where the jets come from, as JSON can hold it.

    Raises:
        StoreError: If the jets or splits are wrong, or the file cannot be written.
    """
    path = Path(path)
    jets.validate(f"jets for {path}")
    parts = {name: int(count) for name, count in (splits or {}).items()}
    if parts and (sum(parts.values()) != len(jets) or min(parts.values()) < 0):
        raise StoreError(f"{path}: splits {parts}, expected counts that add up to {len(jets)} jets; correct them")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(_file_image(jets, parts, provenance or {}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot write ({error}); check folder, permissions and free space") from error
    finally:
        with suppress(OSError):  # there is nothing to remove if all went well
            temporary.unlink()


def _file_image(jets: Jets, splits: dict[str, int], provenance: dict[str, Any]) -> bytes:
    """The file in memory: HDF5 reports a full disk late, and from destructors, where nobody can act on it."""
    # This layout has checksums in its metadata too. A fixed one ("latest" is not) keeps equal jets equal bytes.
    with h5py.File("image", "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        file.attrs.update(format=FORMAT, version=VERSION, fingerprint=_fingerprint(jets))
        file.attrs.update(classes=json.dumps(jets.classes), splits=json.dumps(splits))
        file.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
        _write_array(file, "jets/offsets", jets.offsets)
        _write_array(file, "jets/label", jets.label)
        for name, column in jets.particles.items():
            _write_array(file, f"particles/{name}", column).attrs["unit"] = UNITS.get(name, "")
        file.flush()
        return file.id.get_file_image()


def _write_array(file: h5py.File, name: str, array: np.ndarray) -> h5py.Dataset:
    # Numbers compress better with their bytes shuffled, the few values of a species or its mass without.
    shuffle = len(np.unique(array[:CHUNK])) > 256
    filters = {"compression": "gzip", "compression_opts": 9, "shuffle": shuffle, "fletcher32": True}
    # Without an upper limit on its length an array may be shorter than a chunk, or empty.
    return file.create_dataset(name, data=array, maxshape=(None,), chunks=(CHUNK,), track_times=False, **filters)


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open a store for reading; whatever goes wrong inside becomes a StoreError that names the file."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file; check the path, or make the store with scripts/generate.py")
    try:
        with h5py.File(path, "r") as file:
            found, version = file.attrs.get("format"), file.attrs.get("version")
            if found != FORMAT:
                raise StoreError(f"{path}: format is {found!r}, expected {FORMAT!r}; convert it to a jet store")
            if version != VERSION:
                raise StoreError(f"{path}: version is {version}, expected {VERSION}; update iagraph")
            yield file
    except StoreError:
        raise
    except Exception as error:  # a damaged file makes h5py raise almost anything
        raise StoreError(f"{path}: not HDF5, incomplete or damaged ({error}); copy or write the store anew") from error


def _info(path: Path, file: h5py.File) -> StoreInfo:
    info = StoreInfo(
        jets=file["jets/label"].shape[0],
        particles=int(file["jets/offsets"][-1]),
        classes=tuple(json.loads(file.attrs["classes"])),
        columns=tuple(file["particles"]),
        splits=json.loads(file.attrs["splits"]),
        provenance=json.loads(file.attrs["provenance"]),
        fingerprint=str(file.attrs["fingerprint"]),
        bytes=path.stat().st_size,
    )
    lengths = {"jets/offsets": info.jets + 1} | {f"particles/{name}": info.particles for name in info.columns}
    for name, expected in lengths.items():
        if file[name].shape[0] != expected:
            raise StoreError(f"{path}: {name} has {file[name].shape[0]} values, expected {expected}; write it anew")
    if info.splits and sum(info.splits.values()) != info.jets:
        raise StoreError(f"{path}: splits {info.splits} do not add up to {info.jets} jets; write it anew")
    return info


def store_info(path: str | Path) -> StoreInfo:
    """What a store says about itself, without reading the particles; StoreError as for `read_store`."""
    with _open(Path(path)) as file:
        return _info(Path(path), file)


def read_store(path: str | Path, split: str | None = None) -> Jets:
    """Read a whole store, or one recorded part of it, and validate every value.

    Args:
        path: The file.
        split: The name of a part, for example "train"; None reads all jets and also compares the fingerprint.

    Raises:
        StoreError: If the file is missing, damaged or not a jet store of this version, or has no such part.
    """
    path = Path(path)
    with _open(path) as file:
        info = _info(path, file)
        if split is not None and split not in info.splits:
            raise StoreError(f"{path}: no split {split!r}; there are: {', '.join(info.splits) or 'none'}")
        begin, end = 0, info.jets
        if split is not None:
            end = sum(list(info.splits.values())[: list(info.splits).index(split) + 1])
            begin = end - info.splits[split]
        offsets = file["jets/offsets"][begin : end + 1]
        particles = {name: file[f"particles/{name}"][offsets[0] : offsets[-1]] for name in info.columns}
        jets = Jets(particles, offsets - offsets[0], file["jets/label"][begin:end], info.classes)
    jets.validate(str(path))
    if split is None and _fingerprint(jets) != info.fingerprint:
        raise StoreError(f"{path}: the jets do not match the recorded fingerprint; copy or write the store anew")
    return jets
