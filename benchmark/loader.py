"""Jets per second of loaders: ours, in memory and from a store, and PyTorch Geometric's over lists of ``Data``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from benchmark.measure import Report, in_new_process, median_seconds
from benchmark.sample import repeated
from iagraph.data import JetDataset, JetLoader, Jets, JetStore, StoredJets, StoreWriter, read_store, resolve
from iagraph.transforms import FullyConnected, PairFeatures

STORED_EDGES = 2000
"""Jets of the list with stored edges: 80 kB each."""


def benchmark_loader(jets: int, batch_size: int, repeats: int) -> Report:
    """Load shuffled batches of the quark and gluon jets of the sample, each once per epoch.

    Args:
        jets: number of jets in the store; the sample of 18,000 is repeated.
        batch_size: jets per batch.
        repeats: epochs timed after the first.
    """
    report = Report(f"Loading shuffled batches of {batch_size} jets")
    sample = read_store(resolve("sample:qg"))
    in_memory = JetDataset(sample)
    nodes = in_memory[:].to_data_list()
    to_graph = Compose([FullyConnected(), PairFeatures("invariant")])
    with_edges = [to_graph(data) for data in in_memory[:STORED_EDGES].to_data_list()]

    def add(name: str, number: int, workers: int, seconds: float, memory: float | str = "-") -> None:
        row = {
            "loader": name,
            "jets": number,
            "workers": workers,
            "jets/s": number / seconds,
            "peak memory [MB]": memory,
        }
        report.rows.append(row)

    for name, graphs in (("PyG, stored edges", with_edges), ("PyG, nodes only", nodes)):
        for workers in (0, 2):
            theirs = DataLoader(graphs, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
            add(name, len(graphs), workers, median_seconds(partial(_count, theirs), repeats))
    for workers in (0, 2):
        loader = JetLoader(in_memory, batch_size, shuffle=True, workers=workers)
        add("iagraph, in memory", len(in_memory), workers, median_seconds(partial(_count, loader), repeats))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jets.h5"
        raw = write_repeated(path, sample, jets)
        for workers in (0, 1, 2):
            seconds, memory = in_new_process(_from_store, path, batch_size, workers, repeats)
            add("iagraph, from a store", jets, workers, seconds, memory)
        size = path.stat().st_size / 1e6
    report.notes = [
        f"the jets of the store take {raw / 1e6:,.0f} MB, its file {size:,.0f} MB; the system's cache of it was "
        "dropped before each epoch, as far as the system allows",
        "peak memory is that of the main process, Python and its packages included",
        "PyG: torch_geometric.loader.DataLoader over a list of Data; stored edges are index and five pair features",
    ]
    return report


def write_repeated(path: Path, sample: Jets, jets: int) -> int:
    """Write the repeated sample up to a number of jets; returns their bytes in memory."""
    size = 0
    with StoreWriter(path, sample.classes) as writer:
        for part in repeated(sample, jets):
            writer.append(part)
            size += sum(column.nbytes for column in part.particles.values()) + part.offsets.nbytes + part.label.nbytes
    return size


def _from_store(path: Path, batch_size: int, workers: int, repeats: int) -> float:
    loader = JetLoader(StoredJets([JetStore(path)]), batch_size, shuffle=True, workers=workers)

    def epoch() -> None:
        _drop_cache(path)
        _count(loader)

    return median_seconds(epoch, repeats)


def _drop_cache(path: Path) -> None:
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _count(batches: Iterable[Any]) -> int:
    return sum(1 for _ in batches)
