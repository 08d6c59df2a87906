"""Models also take jets as graphs of PyTorch Geometric."""

import pytest
import torch
from every_model import COUNTS, every_attention_model, every_model, model
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from iagraph.graph import fully_connected
from iagraph.testing import random_jets

JETS = [3, 0, *COUNTS]


@every_model
def test_logits_do_not_depend_on_the_container(make):
    net, jets = model(make, node_features="kinpid").double(), random_jets(JETS, dtype=torch.float64)
    expected, graphs = net(jets), jets.to_data_list()
    for same in (graphs, tuple(graphs), Batch.from_data_list(graphs)):
        assert torch.equal(net(same), expected)
    torch.testing.assert_close(net(graphs[4]), expected[4:5], rtol=0, atol=1e-12)
    found = torch.cat([net(batch) for batch in DataLoader(graphs, batch_size=3)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(net(jets.padded()), expected, rtol=0, atol=1e-10)


@every_model
def test_training_with_a_pyg_loader(make):
    net = model(make, node_features="kinpid").train()
    for batch in DataLoader(random_jets(JETS).to_data_list(), batch_size=5, shuffle=True):
        torch.nn.functional.cross_entropy(net(batch), batch.y).backward()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters())


@every_attention_model
def test_edges_of_the_graphs_are_the_default(make):
    net, jets = model(make).double(), random_jets(COUNTS, dtype=torch.float64)
    graphs = jets.to_data_list()
    for graph in graphs:
        graph.edge_index = fully_connected(torch.tensor([0, graph.num_nodes]))[:, ::2]
    batch = Batch.from_data_list(graphs)
    expected = net(jets, batch.edge_index)
    assert (expected - net(jets)).abs().max() > 1e-5
    torch.testing.assert_close(net(batch), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(net(graphs), expected, rtol=0, atol=1e-12)
    everything = fully_connected(jets.ptr)
    torch.testing.assert_close(net(batch, everything), net(jets, everything), rtol=0, atol=1e-12)


@every_model
def test_graphs_without_momenta_are_refused(make):
    net = model(make)
    graph = Data(x=torch.ones(3, 4), edge_index=torch.zeros(2, 0, dtype=torch.long), num_nodes=3)
    for graphs in (graph, [graph, graph], Batch.from_data_list([graph])):
        with pytest.raises(
            ValueError, match="lack pt, rapidity, phi, mass; a particle needs pt, rapidity, phi and mass"
        ):
            net(graphs)


@every_attention_model
def test_edges_of_jets_in_slots_are_refused(make):
    jets = random_jets([3, 5])
    with pytest.raises(ValueError, match="jets in slots have complete graphs: give edge_index with a JetBatch"):
        model(make)(jets.padded(), fully_connected(jets.ptr))
