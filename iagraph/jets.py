"""Jets as graphs: the batch that models take, ragged or padded to slots.

Edges and pair features are never stored: a jet takes about 1 kB, its pairs a hundred times that. Models compute them
on their own device.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from iagraph.graph import DenseGraph, Graph, PaddedGraph, PrunableGraph, SparseGraph, unordered_pairs
from iagraph.graph.sparse import check_edges
from iagraph.graph_columns import one_graph, read_columns
from iagraph.kinematics import (
    Impact,
    Momenta,
    differentiated,
    from_cartesian,
    jet_momenta,
    node_columns,
    pair_features,
    to_cartesian,
)
from iagraph.segment import ptr_of

__all__ = ["JetBatch", "JetInput", "PaddedJets"]


@dataclass(eq=False)
class JetBatch:
    """Jets of any multiplicity, their particles one after another.

    Attributes:
        momenta: four-momenta of all particles, each component of shape [particles], in float32 or float64.
        ptr: where the particles of each jet begin and end, int64, shape [jets + 1].
        pid: PDG identifiers, shape [particles], if known.
        y: class of each jet, int64, shape [jets], if known.
        impact: impact parameters in mm, each of shape [particles], if known.
        weight: how much each jet counts in a loss, shape [jets]; None if all count alike.
        targets: probabilities of the classes that a training compares with instead of ``y``, shape [jets, classes].
    """

    momenta: Momenta
    ptr: Tensor
    pid: Tensor | None = None
    y: Tensor | None = None
    impact: Impact | None = None
    weight: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return self.ptr.numel() - 1

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute and forgets what was computed from its former value."""
        for computed in {"momenta": ("_summed",), "ptr": ("batch", "sizes", "_summed")}.get(name, ()):
            self.__dict__.pop(computed, None)
        super().__setattr__(name, value)

    @cached_property
    def batch(self) -> Tensor:
        """The jet of each particle, shape [particles]."""
        with torch.inference_mode(False):  # made once, usable in training, too
            jets, particles = torch.arange(len(self), device=self.ptr.device), self.momenta.pt.numel()
            return jets.repeat_interleave(self.ptr.diff(), output_size=particles)

    @cached_property
    def sizes(self) -> list[int]:
        """Number of particles of each jet, on the host; :meth:`to` keeps them, so as not to wait for a GPU."""
        return self.ptr.diff().tolist()

    @property
    def counted(self) -> Tensor | None:
        """True for real particles, shape [particles]; None without padding."""
        return None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> JetBatch:
        """The jets on another device.

        Raises:
            TypeError: ``device`` is a data type.
        """
        if isinstance(device, torch.dtype):
            raise TypeError("jets move to a device, such as 'cuda'; for float64, use JetBatch.double")
        jets = self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        if self.ptr.device.type == "cpu" or "sizes" in vars(self):
            jets.sizes = self.sizes
        return jets

    def pin_memory(self) -> JetBatch:
        """The jets in page-locked memory, for copies to a GPU in the background."""
        return self._map(Tensor.pin_memory)

    def double(self) -> JetBatch:
        """The jets with all floating-point values in float64."""
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
        """The vector sum of the particles of each jet, shape [jets]; computed once unless it needs gradients or the
        momenta are changed in place. Tensors made in inference mode do not tell of changes: replace them instead.
        """
        if torch.compiler.is_compiling() or any(map(differentiated, self.momenta)):
            return jet_momenta(self.momenta, self.batch, self.ptr)
        state = [(id(column), 0 if column.is_inference() else column._version) for column in self.momenta]
        summed, sums = vars(self).get("_summed", (None, None))
        if summed != state:
            with torch.inference_mode(False):
                sums = jet_momenta(self.momenta, self.batch, self.ptr)
            vars(self)["_summed"] = state, sums
        return sums

    def node_features(self, name: str) -> Tensor:
        """Node features by name, shape [particles, features]; see :func:`iagraph.kinematics.node_features`."""
        jets = self.sums()
        energy = jets.energy.index_select(0, self.batch)
        columns = node_columns(name, self.momenta, jets.select(self.batch), energy, self.pid, self.impact)
        return torch.stack(columns, dim=1)

    def edge_features(self, name: str, first: Tensor, second: Tensor) -> Tensor:
        """Pair features by name, and a last row that flags self-pairs.

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
        features = pair_features(name, self.momenta.select(first), self.momenta.select(second), pt, energy)
        return torch.cat([features, (first == second).to(pt).unsqueeze(0)])

    def graph(self, edge_index: Tensor | None = None) -> Graph:
        """The graph of the jets: complete graphs in dense blocks, or a list of the given edges.

        Args:
            edge_index: rows (source, target), shape [2, edges]; None for complete graphs.

        Raises:
            ValueError: an edge joins two jets, or ``edge_index`` is not a list of edges.
        """
        if edge_index is not None:
            return self.prunable_graph(edge_index)
        return DenseGraph(self.ptr, self.batch, self.sizes)

    def prunable_graph(self, edge_index: Tensor | None = None) -> PrunableGraph:
        """The graph of the jets as a list of edges, some of which can be dropped; without ``edge_index``, all
        edges in the order of :func:`~iagraph.graph.fully_connected`.

        Raises:
            ValueError: an edge joins two jets, or ``edge_index`` is not a list of edges.
        """
        if edge_index is None:
            pairs, between = unordered_pairs(self.ptr, self.sizes), [n * (n - 1) // 2 for n in self.sizes]
            return SparseGraph.from_pairs(*pairs, self.batch, len(self), between)
        self.check_edges(edge_index)
        return SparseGraph.scored_per_pair(edge_index, self.batch.numel(), self.batch, len(self))

    def check_edges(self, edge_index: Tensor) -> None:
        """Check that edges, rows (source, target), shape [2, edges], lie within jets.

        Raises:
            ValueError: an edge joins two jets, or ``edge_index`` is not a list of edges.
        """
        check_edges(edge_index, self.batch.numel(), self.batch.numel())
        if bool((self.batch[edge_index[0]] != self.batch[edge_index[1]]).any()):
            raise ValueError("edge_index joins particles of different jets: remove these edges")

    def padded(self, slots: int | None = None, number: int | None = None) -> PaddedJets:
        """The jets padded to equally many slots each.

        Args:
            slots: number of slots per jet; None for the size of the largest jet.
            number: number of jets, the surplus ones without particles, class and weight; None adds none.

        Raises:
            ValueError: a jet has more particles than there are slots, or there are more jets than ``number``.
        """
        largest = max(self.sizes, default=0)
        slots, number = largest if slots is None else slots, len(self) if number is None else number
        if largest > slots:
            raise ValueError(f"a jet has {largest} particles and there are {slots} slots: give more, or drop particles")
        if len(self) > number:
            raise ValueError(f"there are {len(self)} jets: pad them to no fewer, not to {number}")
        sizes = torch.nn.functional.pad(self.ptr.diff(), (0, number - len(self)))
        place = torch.arange(self.batch.numel(), device=self.ptr.device) - self.ptr[self.batch]

        def table(columns: Sequence[Tensor]) -> Tensor:
            values = torch.stack(tuple(columns), dim=1)
            return values.new_zeros(number, slots, values.size(1)).index_put_((self.batch, place), values)

        pid = None if self.pid is None else table([self.pid]).squeeze(2)
        impact = None if self.impact is None else table(self.impact)
        jets = PaddedJets(table(self.momenta), sizes, pid, impact)
        jets.y, jets.weight, jets.targets = self.y, self.weight, self.targets
        return jets

    def with_particles(self, particles: Tensor, ptr: Tensor) -> JetBatch:
        """The jets with only these particles.

        Args:
            particles: their indices, jet by jet.
            ptr: where the particles of each jet begin and end among them, shape [jets + 1].
        """
        impact = None if self.impact is None else Impact(*(column.index_select(0, particles) for column in self.impact))
        pid = None if self.pid is None else self.pid.index_select(0, particles)
        return replace(self, momenta=self.momenta.select(particles), ptr=ptr, pid=pid, impact=impact)

    def with_momenta(self, momenta: Momenta) -> JetBatch:
        """The jets with other momenta of the same particles."""
        jets = copy(self)
        jets.momenta = momenta
        return jets

    def part(self, begin: int, end: int) -> JetBatch:
        """Jets ``begin:end``, without copying their particles."""
        first, last = int(self.ptr[begin]), int(self.ptr[end])
        jets = self._map(lambda tensor: tensor[first:last])
        jets.ptr = self.ptr[begin : end + 1] - first
        jets.y = None if self.y is None else self.y[begin:end]
        jets.weight = None if self.weight is None else self.weight[begin:end]
        jets.targets = None if self.targets is None else self.targets[begin:end]
        return jets

    @classmethod
    def concatenate(cls, parts: Sequence[JetBatch]) -> JetBatch:
        """All jets of ``parts``, at least one, in order.

        Raises:
            ValueError: there is no part, or only some of them have, for example, ``pid``.
            TypeError: a part has slots.
        """
        if not parts:
            raise ValueError("there are no jets to concatenate")
        if any(isinstance(part, PaddedJets) for part in parts):
            raise TypeError("jets in slots cannot be concatenated: do that before JetBatch.padded")
        values: dict[str, Any] = {}
        for item in fields(cls):
            each = [getattr(part, item.name) for part in parts]
            if len({value is None for value in each}) > 1:
                raise ValueError(f"only some of these jets have {item.name}: give it to all, or set it to None in all")
            if item.name in ("momenta", "impact") and each[0] is not None:
                values[item.name] = type(each[0])(*map(torch.cat, zip(*each, strict=True)))
            elif item.name != "ptr":
                values[item.name] = None if each[0] is None else torch.cat(each)
        sizes = torch.cat([part.ptr.diff() for part in parts])
        return cls(ptr=ptr_of(sizes), **values)

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
        ``Data``, ``y`` and ``weight`` may be plain numbers; with ``batch`` it may hold several jets. Momenta become
        float32, unless some are float64.

        Raises:
            TypeError: ``data`` is neither graphs nor a list of them.
            ValueError: a component of the momenta is missing, or some but not all impact parameters are; an attribute
                is not a tensor with one number per particle or jet; on the CPU, also if a component is not finite or
                above its limit (:data:`iagraph.kinematics.LIMITS`), a pT is not above 0, a mass is negative, or the
                particles are not sorted by jet.
        """
        return cls(*read_columns(one_graph(data)))


def falling(values: Tensor, batch: Tensor) -> Tensor:
    """Indices of particles jet by jet, in descending order of value within each; ties keep their order.

    Args:
        values: shape [particles].
        batch: the jet of each particle, shape [particles].
    """
    order = values.argsort(descending=True, stable=True)
    return order[batch[order].argsort(stable=True)]


JetInput: TypeAlias = JetBatch | Data | Batch | Sequence[Data]
"""Input of models: a :class:`JetBatch`, or graphs of PyTorch Geometric."""


def jets_and_edges(jets: JetInput, edge_index: Tensor | None) -> tuple[JetBatch, Tensor | None]:
    """Jets as a batch, and their edges: those given, or else those of the PyTorch Geometric graphs; None for all edges.

    Raises:
        TypeError: the input is neither jets nor graphs.
        ValueError: the graphs are not jets.
    """
    if isinstance(jets, JetBatch):
        return jets, edge_index
    jets = one_graph(jets)
    if edge_index is None and jets.edge_index is None and "adj_t" in jets:
        raise ValueError("these graphs have adj_t, but models of jets take edge_index; without it all edges count")
    return JetBatch(*read_columns(jets, of_jets=())), jets.edge_index if edge_index is None else edge_index


class PaddedJets(JetBatch):
    """Jets with equally many slots each, some of them padding. Padding is ignored, even if it is NaN.

    Args:
        four_momenta: transverse momentum [GeV], rapidity, azimuth [rad] and mass [GeV], shape [jets, slots, 4].
        num_particles: number of particles of each jet, which fill its first slots; shape [jets].
        pid: PDG identifiers, shape [jets, slots], if known.
        impact: impact parameters in the order of :class:`~iagraph.kinematics.Impact`, shape [jets, slots, 4], if known.
        compact: as in :class:`~iagraph.graph.PaddedGraph`.

    Attributes:
        real: True for slots with a particle, shape [jets, slots].
    """

    def __init__(
        self,
        four_momenta: Tensor,
        num_particles: Tensor,
        pid: Tensor | None = None,
        impact: Tensor | None = None,
        compact: bool = False,
    ) -> None:
        jets, slots, _ = four_momenta.shape
        jet = torch.arange(jets, device=four_momenta.device)
        self.real = torch.arange(slots, device=jet.device) < num_particles.unsqueeze(1)
        self.compact = compact
        super().__init__(
            Momenta(*self._columns(four_momenta)),
            torch.arange(jets + 1, device=jet.device) * slots,
            None if pid is None else pid.where(self.real, 0).flatten(),
            impact=None if impact is None else Impact(*self._columns(impact)),
        )
        self.batch = jet.unsqueeze(1).expand(jets, slots).flatten()

    @property
    def counted(self) -> Tensor | None:
        """See :class:`JetBatch`."""
        return self.real.flatten()

    @cached_property
    def sizes(self) -> list[int]:
        """See :class:`JetBatch`."""
        return self.real.sum(1).tolist()

    def _columns(self, values: Tensor) -> tuple[Tensor, ...]:
        """Components along the last axis, each of shape [slots of all jets], zero in padding."""
        return values.where(self.real.unsqueeze(2), 0.0).flatten(0, 1).unbind(1)

    def _map(self, function: Any) -> PaddedJets:
        def table(columns: Sequence[Tensor]) -> Tensor:
            return function(torch.stack(tuple(columns), dim=1).unflatten(0, self.real.shape))

        pid = None if self.pid is None else function(self.pid.view_as(self.real))
        impact = None if self.impact is None else table(self.impact)
        jets = PaddedJets(table(self.momenta), function(self.real.sum(1)), pid, impact, self.compact)
        jets.y, jets.weight, jets.targets = (
            None if values is None else function(values) for values in (self.y, self.weight, self.targets)
        )
        return jets

    def sums(self) -> Momenta:
        """The vector sum of the particles of each jet, computed in float64, shape [jets]."""
        vectors = to_cartesian(Momenta(*(component.double() for component in self.momenta)))
        sums = from_cartesian(*(component.view_as(self.real).sum(1) for component in vectors))
        return Momenta(*(component.to(self.momenta.pt.dtype) for component in sums))

    def graph(self, edge_index: Tensor | None = None) -> PaddedGraph:
        """See :meth:`prunable_graph`."""
        return self.prunable_graph(edge_index)

    def prunable_graph(self, edge_index: Tensor | None = None) -> PaddedGraph:
        """Complete graphs on the particles of each jet.

        Raises:
            ValueError: edges are given.
        """
        if edge_index is not None:
            raise ValueError("jets in slots have complete graphs: give edge_index with a JetBatch")
        return PaddedGraph.complete(self.real, self.compact)

    def with_momenta(self, momenta: Momenta) -> JetBatch:
        """See :class:`JetBatch`; those of padding are ignored."""
        real = self.real.flatten()
        return super().with_momenta(Momenta(*(column.where(real, 0.0) for column in momenta)))

    def with_particles(self, particles: Tensor, ptr: Tensor) -> JetBatch:
        """Not supported."""
        raise TypeError("particles of jets in slots cannot be selected: do that before JetBatch.padded")

    def part(self, begin: int, end: int) -> JetBatch:
        """Not supported."""
        raise TypeError("jets in slots cannot be split: do that before JetBatch.padded")

    def to_data_list(self) -> list[Data]:
        """Not supported."""
        raise TypeError("jets in slots cannot become graphs: make them from the JetBatch")

    def padded(self, slots: int | None = None, number: int | None = None) -> PaddedJets:
        """Not supported."""
        raise TypeError("these jets are already in slots")
