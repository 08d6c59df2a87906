"""Transforms that add edges and features of jets to PyTorch Geometric's ``Data``, for any graph network.

They work on single jets and, faster, on batches. If a batch is to be split again (``Batch.to_data_list``), apply them
to single jets: PyTorch Geometric would drop what was added to the batch.
"""

from __future__ import annotations

from torch_geometric.data import Data
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform

from iagraph.graph import fully_connected
from iagraph.jets import JetBatch

__all__ = ["FullyConnected", "NodeFeatures", "PairFeatures"]


@functional_transform("jet_fully_connected")
class FullyConnected(BaseTransform):
    """Adds ``edge_index``: all ordered pairs of particles within a jet, including self-loops (functional name:
    :obj:`jet_fully_connected`).
    """

    def forward(self, data: Data) -> Data:
        """Add the edges."""
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
        """Add the features."""
        data.x = JetBatch.from_data(data).node_features(self.name)
        return data


@functional_transform("jet_pair_features")
class PairFeatures(BaseTransform):
    """Adds ``edge_attr``: pair features of existing edges, and a last column that is 1 for self-loops; shape [edges,
    features + 1] (functional name: :obj:`jet_pair_features`).

    Args:
        name: a key of :data:`iagraph.kinematics.PAIR_FEATURES`.

    Raises:
        ValueError: the graph has no ``edge_index``, or an edge joins two jets.
    """

    def __init__(self, name: str = "invariant") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"PairFeatures('{self.name}')"

    def forward(self, data: Data) -> Data:
        """Add the features."""
        if data.edge_index is None:
            raise ValueError(
                "pair features need edges: first apply FullyConnected() or another transform that adds them"
            )
        jets = JetBatch.from_data(data)
        jets.check_edges(data.edge_index)
        data.edge_attr = jets.edge_features(self.name, *data.edge_index).t().contiguous()
        return data
