"""From the public formats to the jet store, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from iagraph.data.jets import StoreError
from iagraph.data.overview import Overview
from iagraph.data.readers import Reader, open_jets
from iagraph.data.writer import StoreWriter

Sources = Iterable[tuple[str | None, Reader]]
"""Readers in the order of their jets, each with the split that its jets belong to, if any."""


def convert(files: Sequence[str | Path], out: str | Path, *, force: bool = False) -> Overview:
    """Write the jets of files, one file after another, to one store.

    Args:
        files: Of the same classes and columns; see `iagraph.data.readers` for the formats.
        out: The store to write.
        force: Replace an existing file.

    Returns:
        What the jets look like.

    Raises:
        StoreError: If a file is wrong, the files do not fit together, or the store exists or cannot be written.
    """
    out = Path(out)
    if out.exists() and not force:
        raise StoreError(f"{out}: exists already; choose another file, or --force to replace it")
    readers = [open_jets(file) for file in files]
    for reader in readers[1:]:
        if reader.classes != readers[0].classes:
            raise StoreError(
                f"{reader.path}: {reader.format} of the classes {', '.join(reader.classes)}, but {readers[0].path} is "
                f"{readers[0].format} of {', '.join(readers[0].classes)}; convert them one by one"
            )
    return write_all(((None, reader) for reader in readers), out, sum(reader.jets for reader in readers))


def write_all(sources: Sources, out: Path, jets: int | None = None) -> Overview:
    """Write all jets of readers to one store, with a progress bar.

    Args:
        sources: At least one reader; each is used before the next is asked for.
        out: The store to write.
        jets: Their number in all, if it is known.

    Returns:
        What the jets look like.

    Raises:
        StoreError: If there are none, the jets do not fit together, a file is damaged or the store cannot be written.
    """
    readers = iter(sources)
    first = next(readers, None)
    if first is None:
        raise StoreError(f"{out}: no files of jets to write; check where they should come from")
    classes = first[1].classes
    files: list[dict[str, str | int]] = []  # of which provenance tells what has been read when it is written, at last
    provenance = {"files": files, "versions": {"iagraph": version("iagraph")}}
    overview = Overview(classes)
    with StoreWriter(out, classes, provenance) as writer, tqdm(total=jets, unit="jet", unit_scale=True) as progress:
        for split, reader in chain([first], readers):
            files.append({"name": reader.path.name, "format": reader.format, "jets": reader.jets})
            for part in reader.parts():
                writer.append(part, split)
                overview.add(part)
                progress.update(len(part))
    return overview
