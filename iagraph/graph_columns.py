"""Columns of jets in graphs of PyTorch Geometric, checked: what :meth:`iagraph.jets.JetBatch.from_data` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from iagraph.kinematics import LIMITS, Impact, Momenta
from iagraph.segment import count, ptr_of

OF_PARTICLES = (*Momenta._fields, *Impact._fields, "pid", "batch")
OF_JETS = ("y", "weight")


class Columns(NamedTuple):
    """Columns of jets in the order of the fields of :class:`~iagraph.jets.JetBatch`, with the same shapes."""

    momenta: Momenta
    ptr: Tensor
    pid: Tensor | None
    y: Tensor | None
    impact: Impact | None
    weight: Tensor | None


def one_graph(graphs: Data | Batch | Sequence[Data]) -> Data:
    """Graphs as one.

    Raises:
        TypeError: these are neither graphs nor a list of them.
        ValueError: a column of jets, or ``edge_index``, is missing in some of them.
    """
    if isinstance(graphs, Data):
        return graphs
    listed = list(graphs) if isinstance(graphs, Iterable) and not isinstance(graphs, Tensor) else []
    if not listed or not all(isinstance(graph, Data) for graph in listed):
        raise TypeError(
            f"expected a JetBatch, such as JetDataset(jets)[:], or Data, Batch or a list of Data, found {graphs!r:.80}"
        )
    read: set[str] = {*OF_PARTICLES, *OF_JETS, "edge_index"}
    names = [read.intersection(map(str, graph.keys())) for graph in listed]
    if partly := names[0].union(*names) - names[0].intersection(*names):
        raise ValueError(f"only some of these graphs have {', '.join(sorted(partly))}: give it to all or to none")
    return Batch.from_data_list(listed)


def read_columns(data: Data, of_jets: Sequence[str] = OF_JETS) -> Columns:
    """The columns of jets in a graph or a batch of graphs; errors as in :meth:`iagraph.jets.JetBatch.from_data`.

    Args:
        data: the graphs.
        of_jets: the columns with a number per jet to read; the others are None.
    """
    columns = _of_particles(data)
    # At least float32: the squares of momenta overflow in float16, and integers would truncate the jet's axis.
    dtype = reduce(torch.promote_types, (columns[name].dtype for name in Momenta._fields), torch.float32)
    momenta = Momenta(*(columns[name].to(dtype) for name in Momenta._fields))
    impact = Impact(*(columns[name].to(dtype) for name in Impact._fields)) if "d0" in columns else None
    ptr = _ptr(data, momenta.pt)
    if ptr.device.type == "cpu":  # checking would wait for a GPU
        _check_particles(momenta, ptr)
    y, weight = (_of_jets(name, data, ptr) if name in of_jets else None for name in OF_JETS)
    return Columns(momenta, ptr, columns.get("pid"), y, impact, weight)


def _of_particles(data: Data) -> dict[str, Tensor]:
    """The columns with a number per particle, by name."""
    columns = {name: data[name] for name in OF_PARTICLES if data.get(name) is not None}
    if missing := [name for name in Momenta._fields if name not in columns]:
        raise ValueError(f"these graphs lack {', '.join(missing)}; a particle needs pt, rapidity, phi and mass")
    missing = [name for name in Impact._fields if name not in columns]
    if 0 < len(missing) < len(Impact._fields):
        raise ValueError(f"these graphs lack {', '.join(missing)}; give all of {', '.join(Impact._fields)} or none")
    for name, column in columns.items():
        if not isinstance(column, Tensor):
            raise ValueError(f"{name} of these graphs is of type {type(column).__name__}, expected a tensor")
        if column.ndim != 1:
            raise ValueError(f"{name} of these graphs has shape {list(column.shape)}, expected one number per particle")
        if len(column) != len(columns["pt"]):
            raise ValueError(f"{name} of these graphs has {len(column)} values for {len(columns['pt'])} particles")
    return columns


def _ptr(data: Data, pt: Tensor) -> Tensor:
    """Where the particles of each jet begin and end, from ``batch`` if there is one: subgraphs of a ``Batch`` keep its
    former ``ptr``, whose length is still that of the number of jets, plus one.
    """
    batch, ptr = data.get("batch"), data.get("ptr")
    if batch is None:
        return torch.tensor([0, len(pt)], device=pt.device) if ptr is None else ptr
    if batch.is_floating_point():
        raise ValueError(f"batch of these graphs is {batch.dtype}, expected the number of each particle's jet")
    if batch.device.type == "cpu" and bool((batch < 0).any() | (batch[1:] < batch[:-1]).any()):
        raise ValueError("batch of these graphs is not ascending from 0: sort the particles by jet")
    jets = len(ptr) - 1 if ptr is not None else data.num_graphs if isinstance(data, Batch) else 0
    return ptr_of(count(batch, jets))


def _check_particles(momenta: Momenta, ptr: Tensor) -> None:
    good = momenta.phi.isfinite() & (momenta.pt > 0) & (momenta.mass >= 0)
    for name, limit in LIMITS.items():
        good &= getattr(momenta, name).abs() <= limit
    for particle in (~good).nonzero()[:1, 0].tolist():
        values = ", ".join(f"{name} = {column[particle].item():g}" for name, column in momenta._asdict().items())
        limits = ", ".join(f"|{name}| up to {limit:g}" for name, limit in LIMITS.items())
        raise ValueError(
            f"particle {particle}, in jet {int((ptr <= particle).sum()) - 1}, has {values}, expected finite "
            f"numbers, pt above 0, mass not below, {limits}; of each jet, graph.subgraph(graph.pt > 0) drops padding"
        )


def _of_jets(name: str, data: Data, ptr: Tensor) -> Tensor | None:
    """A column with a number per jet; in a single graph it may be a plain number."""
    values: Any = data.get(name)
    if values is None:
        return None
    column = torch.as_tensor(values, device=ptr.device).view(-1)
    if len(column) != len(ptr) - 1:
        raise ValueError(f"{name} of these graphs has {len(column)} values for {len(ptr) - 1} jets")
    return column
