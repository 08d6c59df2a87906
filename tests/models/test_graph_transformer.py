"""IAFormer's network on graphs of any kind."""

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.transforms import Compose

from iagraph.kinematics import NODE_FEATURES
from iagraph.models import GraphTransformer, IAFormer
from iagraph.nn import TopK
from iagraph.testing import assert_all_gradients, random_jets
from iagraph.transforms import FullyConnected, NodeFeatures, PairFeatures

SIZES = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7], "pair_hidden": [5], "pair_width": 11}


def graph_of(nodes, edges, seed):
    random = torch.Generator().manual_seed(seed)
    edge_index = torch.randint(nodes, (2, edges), generator=random)
    x = torch.randn(nodes, 5, generator=random, dtype=torch.float64)
    return Data(x=x, edge_index=edge_index, edge_attr=torch.randn(edges, 3, generator=random, dtype=torch.float64))


def made(seed=1, **options):
    torch.manual_seed(seed)
    return GraphTransformer(5, 6, 2, 4, heads=3, node_hidden=[7], edge_hidden=[11], edge_width=13, **options).double()


def run(net, data):
    return net(data.x, data.edge_index, data.edge_attr if net.edge_dim else None, data.get("batch"))


def test_equals_the_network_of_the_tagger():
    torch.manual_seed(2)
    tagger = IAFormer("kinpid", "invariant", **SIZES).double().eval()
    with torch.no_grad():
        for parameter in tagger.parameters():
            parameter.normal_(std=0.5)
    names = len(NODE_FEATURES["kinpid"])
    net = GraphTransformer(
        names, 6, 2, 2, heads=3, edge_dim=6, node_hidden=[7], edge_hidden=[5], edge_width=11
    ).double()
    weights = {
        name: value for name, value in tagger.state_dict().items() if ".scale." not in name and "scale_" not in name
    }
    net.load_state_dict(weights)
    jets = random_jets([5, 1, 17, 8], 3, torch.float64)
    features = Compose([FullyConnected(), NodeFeatures("kinpid"), PairFeatures("invariant")])
    data = features(Batch.from_data_list(jets.to_data_list()))
    x, edge_attr = tagger.scale_particles(data.x), tagger.pair_inputs.scale(data.edge_attr)
    logits = net(x, data.edge_index, edge_attr, data.batch)
    torch.testing.assert_close(logits, tagger(jets), rtol=0, atol=1e-10)
    torch.testing.assert_close(logits, tagger(data), rtol=0, atol=1e-10)


@pytest.mark.parametrize("edge_dim", [None, 3])
def test_graphs_of_a_batch_are_independent(edge_dim):
    net, graphs = made(edge_dim=edge_dim), [graph_of(7, 19, 1), graph_of(2, 3, 2), graph_of(1, 0, 3)]
    expected = torch.cat([run(net, graph) for graph in graphs])
    torch.testing.assert_close(run(net, Batch.from_data_list(graphs)), expected)
    (loaded,) = DataLoader(graphs, batch_size=3)
    torch.testing.assert_close(run(net, loaded), expected)
    assert expected.shape == (3, 4)


def test_order_of_nodes_and_edges_is_irrelevant():
    net, data = made(edge_dim=3, per_node=True), graph_of(7, 19, 4)
    place, order = torch.randperm(7), torch.randperm(19)
    moved = torch.empty_like(data.x)
    moved[place] = data.x
    out = net(moved, place[data.edge_index[:, order]], data.edge_attr[order])
    torch.testing.assert_close(out[place], run(net, data))


@pytest.mark.parametrize("edge_dim", [None, 3])
def test_all_weights_have_gradients(edge_dim):
    net, data = made(edge_dim=edge_dim), graph_of(9, 40, 5)

    class OnData(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, data):
            return run(net, data)

    assert_all_gradients(OnData(), data)


def test_rules_leave_fewer_edges_to_later_blocks():
    net, data = made(edge_dim=3, pruning=TopK(1)), graph_of(9, 40, 6)
    _, layers = net(data.x, data.edge_index, data.edge_attr, return_attention_weights=True)
    for edge_index, alpha, edge_ids in layers:
        assert torch.equal(edge_index, data.edge_index[:, edge_ids])
        assert alpha.shape == (len(edge_ids), 3)
        between = edge_index[0] != edge_index[1]
        assert torch.bincount(edge_index[1][between]).max() == 1
    assert set(layers[1][2].tolist()) <= set(layers[0][2].tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.randn(7, 2)}, r"x has shape \[7, 2\]: this network takes \[nodes, 5\]"),
        ({"edge_attr": torch.randn(18, 3)}, r"edge_attr has shape \[18, 3\]: this network takes \[edges, 3\], 19 rows"),
        ({"edge_attr": None}, r"edge_attr is missing: this network takes \[edges, 3\]"),
        ({"edge_index": [[0], [1]]}, "edge_index is list: give a tensor"),
        (
            {"edge_index": torch.full((2, 19), 7)},
            "edge_index has the source 7: nodes are numbered from 0, and there are 7",
        ),
        ({"batch": torch.zeros(6).long()}, r"batch has shape \[6\]: give the graph of each node, \[7\]"),
        ({"batch": torch.arange(7), "batch_size": 6}, "batch has the graph 6, but batch_size is 6"),
    ],
)
def test_missing_inputs_are_named(change, message):
    data = graph_of(7, 19, 7)
    given = {"x": data.x, "edge_index": data.edge_index, "edge_attr": data.edge_attr} | change
    with pytest.raises(ValueError, match=message):
        made(edge_dim=3)(**given)


def test_number_of_features_must_be_given():
    with pytest.raises(ValueError, match="in_channels is -1: give the number of node features"):
        GraphTransformer(-1, 6, 2, 4, heads=3)


def test_reset_draws_new_weights():
    net = made(edge_dim=3)
    before = {name: value.clone() for name, value in net.named_parameters() if "weight" in name and "norm" not in name}
    net.reset_parameters()
    changed = [
        name for name, value in net.named_parameters() if name in before and not torch.equal(value, before[name])
    ]
    assert len(changed) > 8
