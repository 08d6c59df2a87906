"""The edges of a graph, from any adjacency format of PyTorch Geometric."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import Adj
from torch_geometric.utils import is_torch_sparse_tensor, to_edge_index

from iagraph.graph.sparse import check_edges


class Edges(NamedTuple):
    """Edges in the form that layers use.

    Attributes:
        edge_index: rows (source, target), shape [2, edges], a plain tensor.
        num_targets: number of target nodes.
        given: the object that the edges were read from.
        values: the values of a sparse adjacency, shape [edges] or [edges, features]; None otherwise.
    """

    edge_index: Tensor
    num_targets: int
    given: Adj
    values: Tensor | None = None

    def weighted(self, alpha: Tensor) -> Adj:
        """The edges in the given format; a sparse adjacency gets the weights ``alpha`` as its values."""
        if self.values is None:
            return self.given
        size = (*self.given.shape[:2], *alpha.shape[1:])
        if self.given.layout == torch.sparse_coo:
            return torch.sparse_coo_tensor(self.given.indices(), alpha, size, is_coalesced=True, check_invariants=False)
        by_row = self.given.layout == torch.sparse_csr
        ptr = self.given.crow_indices() if by_row else self.given.ccol_indices()
        index = self.given.col_indices() if by_row else self.given.row_indices()
        layout = self.given.layout
        return torch.sparse_compressed_tensor(ptr, index, alpha, size, layout=layout, check_invariants=False)


def check_batch(batch: Tensor | None, num_nodes: int) -> None:
    """Check that ``batch``, if given, has the graph of each node.

    Raises:
        ValueError: it has another shape.
    """
    if batch is not None and batch.shape != (num_nodes,):
        raise ValueError(f"batch has shape {list(batch.shape)}: give the graph of each node, [{num_nodes}]")


def edges_of(adjacency: Adj, num_sources: int, num_targets: int | None) -> Edges:
    """Reads edges from a tensor, an :class:`~torch_geometric.EdgeIndex` or a sparse PyTorch tensor.

    Args:
        adjacency: rows (source, target), shape [2, edges]; or sparse and transposed, as usual in PyTorch Geometric,
            shape [targets, sources], with or without edge features as values. The edges are in the order of its
            entries; a COO tensor is coalesced first.
        num_sources: number of source nodes.
        num_targets: number of target nodes; None takes it from a sparse adjacency, or else uses ``num_sources``.

    Raises:
        ValueError: ``adjacency`` is not a graph, or has different numbers of nodes.
    """
    if isinstance(adjacency, Tensor) and is_torch_sparse_tensor(adjacency):
        shape = (adjacency.size(0) if num_targets is None else num_targets, num_sources)
        if tuple(adjacency.shape[:2]) != shape:
            raise ValueError(
                f"the adjacency has shape {list(adjacency.shape[:2])}: give it as [targets, sources], {list(shape)}"
            )
        if adjacency.layout == torch.sparse_coo:
            adjacency = adjacency.coalesce()
            (target, source), values = adjacency.indices(), adjacency.values()  # to_edge_index would stop gradients
        else:
            (target, source), values = to_edge_index(adjacency)
        return Edges(torch.stack([source, target]), shape[0], adjacency, values)
    if not isinstance(adjacency, Tensor):
        found = type(adjacency).__name__
        raise ValueError(f"edge_index is {found}: give a tensor [2, edges], or a sparse tensor [targets, sources]")
    index = adjacency.as_tensor() if isinstance(adjacency, EdgeIndex) else adjacency
    num_targets = num_sources if num_targets is None else num_targets
    check_edges(index, num_sources, num_targets)
    return Edges(index, num_targets, adjacency)
