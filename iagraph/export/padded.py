"""Jets in a table of slots, jets times particles, as exported models get them, with what models ask of jets and graphs.

All slots of all jets, laid end to end, are the nodes; a slot without a particle is padding, of which nothing depends.
Everything here can be traced with both sizes open, which the ragged classes cannot: they cut and sort by sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from iagraph.dense_blocks import DenseBlock, EdgeScores
from iagraph.graphs import JetBatch
from iagraph.kinematics import Impact, Momenta, from_cartesian, node_columns, to_cartesian
from iagraph.topology import CompleteGraph, distances


class PaddedJets(JetBatch):
    """Jets whose particles stand in slots. What stands in padding is not looked at, not even if it is not a number.

    Args:
        four_momenta: transverse momentum [GeV], rapidity, azimuth [rad] and mass [GeV], shape [jets, slots, 4].
        num_particles: how many slots of each jet hold a particle, the first ones; shape [jets].
        pid: PDG identifiers, shape [jets, slots], if they are known.
        impact: impact parameters in the order of :class:`~iagraph.kinematics.Impact`, shape [jets, slots, 4], if they
            are known.

    Attributes:
        real: where there are particles, shape [jets, slots].
    """

    def __init__(
        self, four_momenta: Tensor, num_particles: Tensor, pid: Tensor | None = None, impact: Tensor | None = None
    ) -> None:
        jets, slots, _ = four_momenta.shape
        jet = torch.arange(jets, device=four_momenta.device)
        self.real = torch.arange(slots, device=jet.device) < num_particles.unsqueeze(1)
        super().__init__(
            Momenta(*self._columns(four_momenta)),
            torch.arange(jets + 1, device=jet.device) * slots,
            None if pid is None else pid.where(self.real, 0).flatten(),
            impact=None if impact is None else Impact(*self._columns(impact)),
        )
        self.batch = jet.unsqueeze(1).expand(jets, slots).flatten()

    def _columns(self, values: Tensor) -> tuple[Tensor, ...]:
        """Components along the last axis, each of shape [slots of all jets], zero in padding."""
        return values.where(self.real.unsqueeze(2), 0.0).flatten(0, 1).unbind(1)

    def sums(self) -> Momenta:
        """The vector sum of the particles of each jet, made in float64, shape [jets]."""
        vectors = to_cartesian(Momenta(*(component.double() for component in self.momenta)))
        sums = from_cartesian(*(component.view_as(self.real).sum(1) for component in vectors))
        return Momenta(*(component.to(self.momenta.pt.dtype) for component in sums))

    def node_features(self, name: str) -> Tensor:
        """Node features by name, shape [slots of all jets, features]."""
        jets = self.sums()
        energy = jets.energy.index_select(0, self.batch)
        columns = node_columns(name, self.momenta, jets.select(self.batch), energy, self.pid, self.impact)
        return torch.stack(columns, dim=1)

    def graph(self, edge_index: Tensor | None = None) -> PaddedGraph:
        """Complete graphs of the particles of each jet; other edges cannot be given.

        A jet without particles has one node, which nobody reads: a softmax over nothing would be no numbers.
        """
        assert edge_index is None
        first = torch.arange(self.real.size(1), device=self.real.device) == 0
        return PaddedGraph(self.real | first)

    def mean(self, x: Tensor) -> Tensor:
        """Means over the particles of each jet, zero without any; [slots of all jets, channels] to [jets, channels]."""
        x = x.unflatten(0, self.real.shape).where(self.real.unsqueeze(2), 0.0)
        return x.sum(1) / self.real.sum(1, keepdim=True).clamp(min=1)


class RowScores(EdgeScores):
    """Scores spread over a block as rows of all maps: onnxruntime copies rows in one go, and numbers one by one.

    For the same reason a product with the unit matrix, which changes nothing, turns rows into columns in a fraction of
    the time; it bears no infinities, so that padding gets the lowest number instead.
    """

    @cached_property
    def dense(self) -> Tensor:
        """See :attr:`EdgeScores.dense`."""
        maps, lowest = self.of_pairs.size(0), torch.finfo(self.of_pairs.dtype).min
        padding = self.of_pairs.new_tensor([[lowest], [0.0]]).expand(2, maps)
        rows = torch.cat([self.of_pairs.t(), padding]).index_select(0, self.block.pairs.pair_of_edge)
        jets, slots = self.block.nodes.shape
        return (torch.eye(maps, dtype=rows.dtype, device=rows.device) @ rows.t()).view(maps, jets, slots, slots)


class PaddedGraph(CompleteGraph):
    """The complete graphs of the particles of jets in slots, or those with some of their pairs: one dense block, whose
    slots are the nodes.

    Args:
        real: where there are particles, shape [jets, slots].
        chosen: as in :class:`~iagraph.dense_blocks.DenseBlock`.
    """

    def __init__(self, real: Tensor, chosen: Tensor | None = None) -> None:
        slots = torch.arange(real.numel(), device=real.device)
        self.block = DenseBlock(slots.view_as(real).where(real, -1), chosen)
        super().__init__(real.numel(), [self.block], slots, slots)

    @property
    def edges(self) -> Tensor:
        """True where two slots are joined, shape [jets, targets, sources]."""
        jets, slots = self.block.nodes.shape
        return (self.block.pairs.pair_of_edge < self.block.pairs.first.numel()).view(jets, slots, slots)

    def lift(self, pair_values: Sequence[Tensor]) -> list[EdgeScores]:
        """See :meth:`CompleteGraph.lift`."""
        (values,) = pair_values
        return [RowScores(values, self.block)]

    def attend(self, scores: list[EdgeScores], values: Tensor) -> Tensor:
        """See :meth:`CompleteGraph.attend`."""
        return self.aggregate([score.dense.softmax(-1) for score in scores], values)

    def nearest(self, points: Tensor, k: int) -> Tensor:
        """See :meth:`CompleteGraph.nearest`."""
        (place,) = self._padded(points)
        distance = distances(place.where(~self.block.padding.unsqueeze(2), 0.0), self.block)
        # So many more slots that there are k others in any graph.
        shortest, slot = pad(distance, (0, k), value=torch.inf).topk(k, largest=False)
        node = pad(self.block.nodes, (0, k), value=-1).unsqueeze(1).expand(-1, distance.size(1), -1).gather(2, slot)
        return torch.where(shortest == torch.inf, -1, node).flatten(0, 1)

    def _padded(self, values: Tensor) -> list[Tensor]:
        return [values.unflatten(0, self.block.nodes.shape)]

    def _by_node(self, blocks: list[Tensor]) -> Tensor:
        return blocks[0].permute(1, 3, 0, 2).flatten(0, 1)
