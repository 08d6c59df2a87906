"""Complete graphs in slots and the same graphs as edge lists."""

import torch

from iagraph.graph import PaddedGraph, SparseGraph, unordered_pairs


def as_list(ptr):
    """All edges of each graph as a list."""
    batch = torch.arange(len(ptr) - 1).repeat_interleave(ptr.diff())
    return SparseGraph.from_pairs(*unordered_pairs(ptr), batch, len(ptr) - 1)


class InSlots:
    """The complete graphs of nodes that fill some of the slots, in order; all other slots hold garbage.

    Args:
        ptr: where each graph's nodes begin and end.
        slots: of each graph.
        compact: as of the padded graph.
    """

    def __init__(self, ptr, slots, compact):
        self.random = torch.Generator().manual_seed(7)
        order = torch.rand(len(ptr) - 1, slots, generator=self.random).argsort(1)
        real = order < ptr.diff().unsqueeze(1)
        self.slots, self.graph = slots, PaddedGraph.complete(real, compact)
        self.slot_of_node = real.flatten().nonzero().squeeze(1)
        self.node_of_slot = torch.full((real.numel(),), -1)
        self.node_of_slot[self.slot_of_node] = torch.arange(len(self.slot_of_node))

    def garbage(self, *shape):
        return 1e3 * torch.randn(shape, generator=self.random, dtype=torch.float64)

    def nodes(self, x):
        """Values of nodes in their slots, shape [nodes, ...] to [slots of all graphs, ...]."""
        return self.garbage(len(self.node_of_slot), *x.shape[1:]).index_copy(0, self.slot_of_node, x)

    def numbers(self, edges):
        """The index of each pair of the graph among the pairs of the edge list, -1 for pairs that are not edges."""
        number = {pair: k for k, pair in enumerate(zip(edges.first.tolist(), edges.second.tolist(), strict=True))}
        ends = (self.node_of_slot[self.graph.first].tolist(), self.node_of_slot[self.graph.second].tolist())
        return torch.tensor([number.get(pair, -1) for pair in zip(*ends, strict=True)], dtype=torch.long)

    def pairs(self, values, edges):
        """Values of the pairs of an edge list, shape [maps, pairs], for the pairs of the graph."""
        numbers = self.numbers(edges)
        there = (numbers >= 0).nonzero().squeeze(1)
        return self.garbage(len(values), len(numbers)).index_copy(1, there, values[:, numbers[there]])

    def edges(self, table, edge_index):
        """Values of some edges from a table, [maps, graphs, targets, sources] to [maps, edges]."""
        source, target = self.slot_of_node[edge_index]
        graph = source // self.slots
        return table.expand(-1, -1, self.slots, self.slots)[:, graph, target % self.slots, source % self.slots]

    def table(self, values, edge_index):
        """The inverse, with garbage beside the edges."""
        source, target = self.slot_of_node[edge_index]
        where = (source // self.slots, target % self.slots, source % self.slots)
        table = self.garbage(self.graph.num_graphs, self.slots, self.slots, len(values)).to(values.dtype)
        return table.index_put(where, values.t()).permute(3, 0, 1, 2)
