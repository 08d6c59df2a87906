from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.transforms import Compose

from iagraph.graph import fully_connected
from iagraph.testing import random_jets
from iagraph.transforms import FullyConnected, NodeFeatures, PairFeatures

COUNTS = [5, 1, 0, 7]


def test_jets_without_impact_parameters_have_no_full_features():
    with pytest.raises(ValueError, match="'full' need impact parameters, but these jets have none"):
        NodeFeatures("full")(replace(random_jets(COUNTS), impact=None).to_data_list()[0])


def test_transforms_on_each_graph_equal_transforms_on_the_batch():
    jets = random_jets(COUNTS)
    transform = Compose([FullyConnected(), NodeFeatures("kinpid"), PairFeatures("invariant")])
    graphs = jets.to_data_list()
    each = Batch.from_data_list([transform(graph) for graph in graphs])
    together = transform(Batch.from_data_list(graphs))
    assert torch.equal(each.edge_index, together.edge_index)
    torch.testing.assert_close(each.x, together.x)
    torch.testing.assert_close(each.edge_attr, together.edge_attr)
    assert graphs[0].edge_index is None  # the caller's graph stays as it was


def test_transformed_graph():
    jets = random_jets([5, 7])
    data = Compose([FullyConnected(), NodeFeatures("kin"), PairFeatures("part")])(
        Batch.from_data_list(jets.to_data_list())
    )
    assert data.validate()
    assert data.x.shape == (12, 7)
    assert data.edge_index.shape == (2, 25 + 49)
    assert data.edge_attr.shape == (25 + 49, 5)
    is_self = data.edge_index[0] == data.edge_index[1]
    assert torch.equal(data.edge_attr[:, -1], is_self.float())
    assert is_self.sum() == 12
    expected = jets.edge_features("part", *fully_connected(jets.ptr)).t()
    torch.testing.assert_close(data.edge_attr, expected)


def test_pair_features_need_edges():
    with pytest.raises(ValueError, match=r"need edges: first apply FullyConnected\(\)"):
        PairFeatures()(random_jets([3]).to_data_list()[0])


def test_pair_features_of_edges_between_jets_are_refused():
    batch = Batch.from_data_list(random_jets([3, 2]).to_data_list())
    batch.edge_index = torch.tensor([[0, 2], [1, 3]])
    with pytest.raises(ValueError, match="edge_index joins particles of different jets"):
        PairFeatures()(batch)
