"""Conversion of public formats to the jet store, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from iagraph import __version__
from iagraph.data.classes import ChosenClasses, Classes
from iagraph.data.jets import StoreError
from iagraph.data.overview import Overview
from iagraph.data.readers import Reader, open_jets
from iagraph.data.readers.jet_store import JetStoreReader
from iagraph.data.sample import resolve
from iagraph.data.writer import StoreWriter
from iagraph.files import user_files, user_path

if TYPE_CHECKING:
    from iagraph.data.readers.mapped import BranchMap

Sources = Iterable[tuple[str | None, Reader]]
"""Readers in the order of their jets, each with the split of its jets, if any."""


def convert(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    force: bool = False,
    classes: Classes | None = None,
    branches: BranchMap | None = None,
) -> Overview:
    """Write the jets of several files, in order, to one store.

    Stores that record splits are joined split by split. Shards of a generated sample are joined only if each is given
    exactly once.

    Args:
        files: names of files, or patterns such as ``jets/*.root``; columns, splits and, unless ``classes`` are given,
            classes must be equal. Formats: :mod:`iagraph.data.readers`.
        out: the store to write.
        force: replace an existing file.
        classes: new classes, each with the stored classes it merges; jets of others are dropped.
        branches: which branches to read from ROOT trees or parquet files; None expects one of the known layouts.

    Returns:
        An overview of the jets.

    Raises:
        StoreError: a file is invalid, the files do not fit together, or the store cannot be written or, without
            ``force``, exists.
    """
    out = user_path(out)
    if out.exists() and not force:
        raise StoreError(f"{out}: already exists; choose another file, or replace it with --force")
    paths = [resolve(file) for file in user_files(files)]
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise StoreError(f"{path}: named twice, so its jets would be stored twice; name it once")
    readers = [open_jets(path, branches) for path in paths]
    first = readers[0]
    for reader in readers[1:]:
        if reader.splits != first.splits or (classes is None and reader.classes != first.classes):
            raise StoreError(
                f"{reader.path}: {_about(reader)}, but {first.path}: {_about(first)}; convert them one by one"
            )
    _check_shards(readers)
    jets = sum(reader.jets for reader in readers)
    if not jets:
        raise StoreError(f"{', '.join(map(str, paths))}: no jets to convert")
    sources: Sources = ((None, reader) for reader in readers)
    if first.splits:  # split by split, so that each stays contiguous
        sources = ((split, JetStoreReader(path, split)) for split in first.splits for path in paths)
    return write_all(sources, out, jets, classes)


def _check_shards(readers: Sequence[Reader]) -> None:
    """Check that generated shards, if any, are the complete set of one sample."""
    shards: dict[int, Reader] = {}
    samples: list[tuple[Path, dict[str, Any]]] = []
    for reader in readers:
        number, of = reader.provenance.get("shard", (1, 1))
        if of == 1:
            continue
        sample = {"config": reader.provenance.get("config"), "jets": reader.provenance.get("jets"), "shards": of}
        path, first = samples[0] if samples else (reader.path, sample)
        if other := [key for key, value in sample.items() if value != first[key]]:
            raise StoreError(
                f"{reader.path}: a shard of a different sample than {path} (differs in "
                f"{', '.join(other)}); convert them one by one"
            )
        if number in shards:
            same = shards[number].path
            raise StoreError(f"{reader.path}: shard {number} of {of}, as is {same}; leave one out")
        shards[number] = reader
        samples.append((reader.path, sample))
    if samples:
        path, first = samples[0]
        if missing := [str(number) for number in range(1, first["shards"] + 1) if number not in shards]:
            raise StoreError(f"shard {', '.join(missing)} of {first['shards']} is missing next to {path}; name it too")


def _about(reader: Reader) -> str:
    splits = f" with the splits {', '.join(reader.splits)}" if reader.splits else ""
    return f"{reader.format} with the classes {', '.join(reader.classes)}{splits}"


def write_all(sources: Sources, out: Path, jets: int | None = None, classes: Classes | None = None) -> Overview:
    """Write all jets of several readers to one store, with a progress bar.

    Args:
        sources: at least one reader; each is exhausted before the next is requested.
        out: the store to write.
        jets: the number of jets to read, if known.
        classes: new classes, each with the stored classes it merges; jets of others are dropped.

    Returns:
        An overview of the jets.

    Raises:
        StoreError: there is no reader, the jets do not fit together, a file is damaged or the store cannot be written.
    """
    readers = iter(sources)
    first = next(readers, None)
    if first is None:
        raise StoreError(f"{out}: no jet files to write; check their source")
    names = first[1].classes if classes is None else tuple(classes)
    files: list[dict[str, Any]] = []  # part of the provenance, which is written last
    provenance: dict[str, Any] = {"files": files, "versions": {"iagraph": __version__}}
    if classes is not None:
        provenance["classes"] = {name: list(parts) for name, parts in classes.items()}
    overview = Overview(names)
    columns: set[str] | None = None
    with StoreWriter(out, names, provenance) as writer, tqdm(total=jets, unit="jet", unit_scale=True) as progress:
        for split, reader in chain([first], readers):
            about = {"name": reader.path.name, "format": reader.format, "jets": reader.jets}
            about |= {"split": split} if split else {}
            files.append(about | ({"provenance": dict(reader.provenance)} if reader.provenance else {}))
            choose = None if classes is None else ChosenClasses(classes, reader.classes, reader.path)
            for part in reader.parts():
                progress.update(len(part))
                chosen = part if choose is None else choose(part)
                found = {*part.particles, *(["weights"] if part.weight is not None else [])}
                columns = found if columns is None else columns
                if found != columns:
                    raise StoreError(
                        f"{reader.path}: its jets have {', '.join(sorted(found))}, those of {first[1].path} have "
                        f"{', '.join(sorted(columns))}; convert them one by one"
                    )
                writer.append(chosen, split)
                overview.add(chosen)
        if classes is not None and not overview.jets:
            raise StoreError(f"{out}: no jets of the classes {', '.join(names)} in these files; name others")
    return overview
