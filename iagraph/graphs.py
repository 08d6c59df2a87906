"""Jets as graphs: the batch that the models take, and PyTorch Geometric's ``Data`` with its transforms.

Edges and pair features are never stored: a jet is about 1 kB, its pairs are a hundred times that. Models make them from
``ptr`` on their own device (:class:`JetBatch`, :mod:`iagraph.topology`). For other people's graph networks, the
transforms below write the same graph into ``x``, ``edge_index`` and ``edge_attr``. They work on one jet and, faster, on
a batch of jets; to take a batch apart again (``Batch.to_data_list``), apply them to single jets, because PyTorch
Geometric forgets what is added to a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from iagraph.edge_list import EdgeListGraph, fully_connected, unordered_pairs
from iagraph.kinematics import Impact, Momenta, jet_momenta, node_features, pair_columns
from iagraph.topology import CompleteGraph


@dataclass
class JetBatch:
    """Jets of any multiplicity, their particles one after another.

    Attributes:
        momenta: four-momenta of all particles, each component of shape [particles].
        ptr: where the particles of each jet begin and end, int64, shape [jets + 1].
        pid: PDG identifiers, shape [particles], if they are known.
        y: class of each jet, int64, shape [jets], if it is known.
        impact: impact parameters in mm, each of shape [particles], if they are known.
        weight: how much each jet counts in a loss, shape [jets]; None if all count alike.
    """

    momenta: Momenta
    ptr: Tensor
    pid: Tensor | None = None
    y: Tensor | None = None
    impact: Impact | None = None
    weight: Tensor | None = None

    def __len__(self) -> int:
        return self.ptr.numel() - 1

    @cached_property
    def batch(self) -> Tensor:
        """The jet of each particle, shape [particles]."""
        with torch.inference_mode(False):  # made once, and then good for training, too
            return torch.arange(len(self), device=self.ptr.device).repeat_interleave(self.ptr.diff())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> JetBatch:
        """The same jets on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> JetBatch:
        """The same jets in page-locked memory, from which copies to a GPU run in the background."""
        return self._map(Tensor.pin_memory)

    def double(self) -> JetBatch:
        """The same jets with momenta and impact parameters in float64."""
        return self._map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def _map(self, function: Any) -> JetBatch:
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Momenta | Impact):
                values[item.name] = type(value)(*map(function, value))
            else:
                values[item.name] = None if value is None else function(value)
        return JetBatch(**values)

    def sums(self) -> Momenta:
        """The vector sum of the particles of each jet, shape [jets]."""
        return jet_momenta(self.momenta, self.batch, self.ptr)

    def node_features(self, name: str) -> Tensor:
        """Node features by name, shape [particles, features]; see :func:`iagraph.kinematics.node_features`."""
        return node_features(name, self.momenta, self.batch, self.ptr, self.pid, self.impact)

    def edge_features(self, name: str, first: Tensor, second: Tensor) -> Tensor:
        """Pair features by name, and a last row that marks the pairs of a particle with itself.

        Args:
            name: a key of :data:`iagraph.kinematics.PAIR_FEATURES`.
            first: one particle of each pair, shape [pairs].
            second: the other particle, of the same jet, shape [pairs].

        Returns:
            Shape [features + 1, pairs].
        """
        jet_of_pair = self.batch.index_select(0, first)
        jets = self.sums()
        pt, energy = jets.pt.index_select(0, jet_of_pair), jets.energy.index_select(0, jet_of_pair)
        columns = pair_columns(name, self.momenta.select(first), self.momenta.select(second), pt, energy)
        return torch.stack([*columns, (first == second).to(pt)])

    def graph(self, edge_index: Tensor | None = None) -> CompleteGraph | EdgeListGraph:
        """Who talks to whom: all particles of a jet, as dense blocks, or the edges given.

        Args:
            edge_index: rows (source, target), shape [2, edges]; None for complete graphs.

        Raises:
            ValueError: an edge joins two jets.
        """
        return CompleteGraph.from_ptr(self.ptr) if edge_index is None else self.edge_list(edge_index)

    def edge_list(self, edge_index: Tensor | None = None) -> EdgeListGraph:
        """The same as a list of edges; that of complete graphs is in the order of ``fully_connected(ptr)``.

        Raises:
            ValueError: an edge joins two jets.
        """
        if edge_index is None:
            return EdgeListGraph.from_pairs(*unordered_pairs(self.ptr), self.batch, len(self))
        if bool((self.batch[edge_index[0]] != self.batch[edge_index[1]]).any()):
            raise ValueError("edge_index joins particles of different jets: remove these edges")
        return EdgeListGraph.from_edges(edge_index, self.batch.numel(), self.batch, len(self))

    def part(self, begin: int, end: int) -> JetBatch:
        """The jets begin:end, without copying their particles."""
        first, last = int(self.ptr[begin]), int(self.ptr[end])
        jets = self._map(lambda tensor: tensor[first:last])
        jets.ptr = self.ptr[begin : end + 1] - first
        jets.y = None if self.y is None else self.y[begin:end]
        jets.weight = None if self.weight is None else self.weight[begin:end]
        return jets

    @classmethod
    def concatenate(cls, parts: Sequence[JetBatch]) -> JetBatch:
        """All jets of ``parts``, at least one, in order; what is known of one is known of all."""
        values: dict[str, Any] = {}
        for item in fields(cls):
            each = [getattr(part, item.name) for part in parts]
            if item.name in ("momenta", "impact") and each[0] is not None:
                values[item.name] = type(each[0])(*map(torch.cat, zip(*each, strict=True)))
            elif item.name != "ptr":
                values[item.name] = None if each[0] is None else torch.cat(each)
        sizes = torch.cat([part.ptr.diff() for part in parts])
        return cls(ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), **values)

    def to_data_list(self) -> list[Data]:
        """One ``Data`` per jet, with ``pt``, ``rapidity``, ``phi``, ``mass`` and, where known, ``pid``, ``y``,
        ``weight``, ``d0``, ``d0_error``, ``dz`` and ``dz_error``.
        """
        columns = self.momenta._asdict() | ({} if self.impact is None else self.impact._asdict())
        jets = []
        for jet, (begin, end) in enumerate(zip(self.ptr[:-1].tolist(), self.ptr[1:].tolist(), strict=True)):
            values = {name: column[begin:end] for name, column in columns.items()}
            if self.pid is not None:
                values["pid"] = self.pid[begin:end]
            if self.y is not None:
                values["y"] = self.y[jet : jet + 1]
            if self.weight is not None:
                values["weight"] = self.weight[jet : jet + 1]
            jets.append(Data(num_nodes=end - begin, **values))
        return jets

    @classmethod
    def from_data(cls, data: Data | Batch | Sequence[Data]) -> JetBatch:
        """Jets from ``Data``, ``Batch`` or a list of ``Data`` with the attributes of :meth:`to_data_list`. In a single
        ``Data``, ``y`` and ``weight`` may be plain numbers.

        Raises:
            ValueError: a component of the momenta is missing, or some but not all impact parameters are; on the CPU
                also if a component is not finite, a pT is not above 0, or a mass is negative.
        """
        if not isinstance(data, Data):
            data = Batch.from_data_list(list(data))
        missing = [name for name in Momenta._fields if name not in data]
        if missing:
            raise ValueError(f"these graphs lack {', '.join(missing)}; a particle needs pt, rapidity, phi and mass")
        missing = [name for name in Impact._fields if name not in data]
        if 0 < len(missing) < len(Impact._fields):
            raise ValueError(f"these graphs lack {', '.join(missing)}; give all of {', '.join(Impact._fields)} or none")
        momenta = Momenta(*(data[name] for name in Momenta._fields))
        impact = None if missing else Impact(*(data[name] for name in Impact._fields))
        ptr = data.ptr if "ptr" in data else torch.tensor([0, momenta.pt.numel()], device=momenta.pt.device)
        if momenta.pt.device.type == "cpu":  # a GPU would have to be waited for
            finite = torch.stack([component.isfinite() for component in momenta]).all(0)
            for particle in (~(finite & (momenta.pt > 0) & (momenta.mass >= 0))).nonzero()[:1, 0].tolist():
                values = ", ".join(f"{name} = {data[name][particle].item():g}" for name in Momenta._fields)
                raise ValueError(
                    f"particle {particle}, in jet {int((ptr <= particle).sum()) - 1}, has {values}, expected finite "
                    "numbers, pt above 0, mass not below; of each jet, graph.subgraph(graph.pt > 0) drops padding"
                )
        y, weight = (
            None if data.get(name) is None else torch.as_tensor(data[name], device=ptr.device).view(-1)
            for name in ("y", "weight")
        )
        return cls(momenta, ptr, data.get("pid"), y, impact, weight)


@functional_transform("jet_fully_connected")
class FullyConnected(BaseTransform):
    """Adds ``edge_index``: all ordered pairs of particles within a jet, a particle with itself included
    (functional name: :obj:`jet_fully_connected`).
    """

    def forward(self, data: Data) -> Data:
        """Adds the edges."""
        data.edge_index = fully_connected(JetBatch.from_data(data).ptr)
        return data


@functional_transform("jet_node_features")
class NodeFeatures(BaseTransform):
    """Adds ``x``, shape [particles, features] (functional name: :obj:`jet_node_features`).

    Args:
        name: a key of :data:`iagraph.kinematics.NODE_FEATURES`.
    """

    def __init__(self, name: str = "kin") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"NodeFeatures('{self.name}')"

    def forward(self, data: Data) -> Data:
        """Adds the features."""
        data.x = JetBatch.from_data(data).node_features(self.name)
        return data


@functional_transform("jet_pair_features")
class PairFeatures(BaseTransform):
    """Adds ``edge_attr`` for the edges there are: pair features, and a last column that is 1 for the edge of a particle
    with itself; shape [edges, features + 1] (functional name: :obj:`jet_pair_features`).

    Args:
        name: a key of :data:`iagraph.kinematics.PAIR_FEATURES`.

    Raises:
        ValueError: the graph has no ``edge_index`` yet.
    """

    def __init__(self, name: str = "invariant") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"PairFeatures('{self.name}')"

    def forward(self, data: Data) -> Data:
        """Adds the features."""
        if data.edge_index is None:
            raise ValueError("pair features need edges: apply FullyConnected() or another transform that adds them")
        source, target = data.edge_index
        data.edge_attr = JetBatch.from_data(data).edge_features(self.name, source, target).t().contiguous()
        return data
