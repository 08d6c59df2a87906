"""Readers of public jet files; ``open_jets`` selects one by the content of a file.

HDF5 and ROOT files may lack checksums (npz files and jet stores have them): damage inside a published file may go
unnoticed unless its published checksum is verified, as after a download.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from iagraph.data.jets import StoreError
from iagraph.data.readers.base import Reader, reading
from iagraph.data.readers.energyflow import EnergyFlowReader
from iagraph.data.readers.jet_store import JetStoreReader
from iagraph.data.readers.pandas_frames import find_frame
from iagraph.data.readers.top_tagging import TopTaggingReader
from iagraph.data.sample import resolve
from iagraph.data.store import FORMAT, stated_format

if TYPE_CHECKING:
    from iagraph.data.readers.mapped import BranchMap

__all__ = ["Reader", "open_jets"]

EXPECTED = (
    "expected jets of the top quark tagging reference (HDF5 as pandas writes it), EnergyFlow (npz with X and y), "
    "JetClass (ROOT with a tree 'tree'), weaver's converters (parquet) or an iagraph jet store"
)


def open_jets(path: str | Path, branches: BranchMap | None = None) -> Reader:
    """The reader for a file of jets, selected by its content, not its name.

    Args:
        path: the file, or a bundled sample (``sample:qg``).
        branches: which branches to read from a ROOT tree or parquet file; None expects one of the known layouts.

    Raises:
        StoreError: the file is missing, damaged or of an unknown format.
        ImportError: the format needs a package that is not installed.
    """
    path = resolve(str(path))
    with reading(path):
        if not path.is_file():
            found = "a folder; name a file in it" if path.is_dir() else "no such file; check the path"
            raise StoreError(f"{path}: {found}")
        with path.open("rb") as file:
            head = file.read(512)
    if branches is not None:
        return _open_mapped(path, head, branches)
    if head.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):  # the signature may come later in the file
        return _open_hdf5(path)
    if head.startswith(b"PK"):
        return EnergyFlowReader(path)
    if head.startswith(b"root"):
        from iagraph.data.readers.jetclass import JetClassReader  # needs uproot; the others do not

        return JetClassReader(path)
    if head.startswith(b"PAR1"):
        from iagraph.data.readers.converted import open_parquet  # needs pyarrow and pydantic

        return open_parquet(path)
    raise StoreError(f"{path}: {_describe(head)}; {EXPECTED}")


def _open_hdf5(path: Path) -> Reader:
    with reading(path), h5py.File(path, "r") as file:
        is_store = stated_format(file) == FORMAT
        if not is_store and find_frame(file) is None:
            raise StoreError(f"HDF5 with {', '.join(file) or 'nothing in it'}; {EXPECTED}")
    return JetStoreReader(path) if is_store else TopTaggingReader(path)


def _open_mapped(path: Path, head: bytes, branches: BranchMap) -> Reader:
    from iagraph.data.readers.mapped import MappedReader

    if head.startswith(b"PAR1"):
        from iagraph.data.readers.parquet import ParquetTable

        return MappedReader(ParquetTable(path), branches)
    if not head.startswith(b"root"):
        raise StoreError(f"{path}: neither a ROOT nor a parquet file; a branch map (--map) needs one of these")
    if branches.tree is None:
        raise StoreError(f"{path}: a ROOT file, but the branch map names no tree; add 'tree: NAME' to it")
    from iagraph.data.readers.root import RootTable

    return MappedReader(RootTable(path, branches.tree), branches)


def _describe(head: bytes) -> str:
    """Description of a file of unknown format, from its first bytes."""
    start = head.lstrip().lower()
    if not head:
        return "empty; download or copy it again"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps a server's error message; download it again"
    if head[257:262] == b"ustar" or head.startswith(b"\x1f\x8b"):
        return "an archive; unpack it and name a file in it"
    if head.startswith(b"\x93NUMPY"):
        return "a single NumPy array (npy)"
    if b"\0" in head:
        return f"begins with the bytes {head[:8].hex(' ')}"
    return f"text that begins {head[:40].decode(errors='replace')!r}"
