import pickle
import re
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch, Data, InMemoryDataset

from iagraph.jets import JetBatch, jets_and_edges
from iagraph.kinematics import Impact
from iagraph.testing import random_jets
from iagraph.transforms import NodeFeatures

COUNTS = [5, 1, 0, 7]


def tracked_jets(counts):
    """Random jets with impact parameters."""
    jets = random_jets(counts)
    return replace(jets, impact=Impact(*torch.rand(4, sum(counts), generator=torch.Generator().manual_seed(3))))


HALVES = torch.tensor([0.25, 0.5])


def test_to_pyg_and_back():
    jets = random_jets(COUNTS)
    graphs = jets.to_data_list()
    assert [graph.num_nodes for graph in graphs] == COUNTS
    for source in (graphs, Batch.from_data_list(graphs)):
        back = JetBatch.from_data(source)
        assert all(torch.equal(a, b) for a, b in zip(back.momenta, jets.momenta, strict=True))
        assert torch.equal(back.ptr, jets.ptr)
        assert torch.equal(back.pid, jets.pid)
        assert torch.equal(back.y, jets.y)


def test_impact_parameters_are_kept():
    jets = tracked_jets(COUNTS)
    graphs = jets.to_data_list()
    for number, name in enumerate(Impact._fields):
        assert torch.equal(graphs[3][name], jets.impact[number][6:])
    for source in (graphs, Batch.from_data_list(graphs)):
        back = JetBatch.from_data(source)
        assert isinstance(back.impact, Impact)
        assert all(torch.equal(a, b) for a, b in zip(back.impact, jets.impact, strict=True))
    together = NodeFeatures("full")(Batch.from_data_list(graphs)).x
    torch.testing.assert_close(together, jets.node_features("full"))
    torch.testing.assert_close(together[:, 14], jets.impact.dz_error)
    del graphs[0].dz, graphs[0].d0_error
    with pytest.raises(ValueError, match="lack d0_error, dz; give all of d0, d0_error, dz, dz_error or none"):
        JetBatch.from_data(graphs[0])


def test_one_graph_is_a_batch_of_one():
    jets = random_jets([5])
    one = JetBatch.from_data(jets.to_data_list()[0])
    assert one.ptr.tolist() == [0, 5]


def test_unknown_columns_stay_unknown():
    jets = random_jets(COUNTS)
    back = JetBatch.from_data(JetBatch(jets.momenta, jets.ptr).to_data_list())
    assert back.pid is None
    assert back.y is None
    assert back.impact is None


def test_graphs_without_momenta_are_refused():
    with pytest.raises(ValueError, match="lack rapidity, mass; a particle needs pt, rapidity, phi and mass"):
        JetBatch.from_data(Data(pt=torch.ones(3), phi=torch.ones(3)))


@pytest.mark.parametrize("name", ["pt", "rapidity", "phi", "mass", "dz", "pid"])
def test_columns_of_graphs_have_one_number_per_particle(name):
    graph = tracked_jets([3, 5]).to_data_list()[1]
    graph[name] = graph[name].unsqueeze(1)
    with pytest.raises(ValueError, match=rf"{name} of these graphs has shape \[5, 1\], expected one number"):
        JetBatch.from_data(graph)


def test_batch_moves_and_converts_all_columns():
    jets = tracked_jets(COUNTS)
    moved = jets.to("meta")
    assert {t.device.type for t in (*moved.momenta, moved.ptr, moved.pid, moved.y, *moved.impact)} == {"meta"}
    doubled = jets.double()
    assert {t.dtype for t in (*doubled.momenta, *doubled.impact)} == {torch.float64}
    assert {t.dtype for t in (doubled.ptr, doubled.pid, doubled.y)} == {torch.int64}
    assert replace(jets, impact=None).to("meta").impact is None
    assert len(jets) == 4
    assert jets.batch.tolist() == [0] * 5 + [1] + [3] * 7


def test_jets_in_slots():
    jets = tracked_jets(COUNTS)
    padded = jets.padded(9)
    assert len(padded) == 4
    assert padded.real.sum(1).tolist() == COUNTS
    assert padded.y.equal(jets.y)
    columns = ((*each.momenta, each.pid, *each.impact) for each in (jets, padded))
    for ragged, slots in zip(*columns, strict=True):
        assert torch.equal(slots[padded.real.flatten()], ragged)
        assert not slots[~padded.real.flatten()].any()
    for name in ("kin", "kinpid", "full", "iaformer"):
        found = padded.node_features(name)[padded.real.flatten()]
        torch.testing.assert_close(found, jets.node_features(name))
    moved = padded.double().to("meta")
    assert moved.momenta.pt.dtype == torch.float64
    assert {t.device.type for t in (*moved.momenta, moved.ptr, moved.pid, moved.y, moved.real)} == {"meta"}
    assert jets.padded().real.shape == (4, 7)
    with pytest.raises(ValueError, match="a jet has 7 particles and there are 6 slots: give more, or drop particles"):
        jets.padded(6)
    more = jets.padded(7, 6)
    assert more.real.sum(1).tolist() == [*COUNTS, 0, 0]
    assert more.y.equal(jets.y)
    with pytest.raises(ValueError, match="there are 4 jets: pad them to no fewer, not to 3"):
        jets.padded(7, 3)
    with pytest.raises(TypeError, match="jets in slots cannot be split: do that before"):
        padded.part(0, 1)
    with pytest.raises(TypeError, match="particles of jets in slots cannot be selected: do that before"):
        padded.with_particles(torch.tensor([0]), torch.tensor([0, 1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("pt", value) for value in (0.0, -1.0, 1e30)),
        *(("mass", value) for value in (-0.5, 1.1e8)),
        *((name, float("nan")) for name in ("pt", "rapidity", "phi")),
        ("rapidity", -100.0),
    ],
)
def test_impossible_particles_are_named(name, value):
    graphs = random_jets(COUNTS).to_data_list()
    graphs[3][name][2] = value
    for source in (graphs, Batch.from_data_list(graphs)):
        with pytest.raises(
            ValueError, match=rf"^particle 8, in jet 3, has .*{name} = {re.escape(f'{value:g}')}.*, expected finite"
        ):
            JetBatch.from_data(source)
    graphs[3].mass[2] = torch.inf
    with pytest.raises(ValueError, match=r"^particle 2, in jet 0, has .*mass = inf, expected finite"):
        JetBatch.from_data(graphs[3])


@pytest.mark.parametrize("found", [[], [1], torch.zeros(3), {"pt": 1}, "jets"])
def test_other_objects_are_refused(found):
    with pytest.raises(TypeError, match=r"^expected a JetBatch, such as JetDataset\(jets\)\[:\], or Data, Batch or"):
        jets_and_edges(found, None)


def test_sums_follow_the_particles():
    jets = random_jets(COUNTS)
    assert jets.sums().pt.shape == (len(COUNTS),)  # computed, and kept
    jets.momenta = jets.momenta._replace(pt=2 * jets.momenta.pt, mass=2 * jets.momenta.mass)
    expected = JetBatch(jets.momenta, jets.ptr).sums()
    torch.testing.assert_close(jets.sums(), expected, rtol=0, atol=0)
    moved = jets.with_momenta(jets.momenta._replace(pt=3 * jets.momenta.pt))
    torch.testing.assert_close(moved.sums(), JetBatch(moved.momenta, moved.ptr).sums(), rtol=0, atol=0)
    torch.testing.assert_close(jets.sums(), expected, rtol=0, atol=0)
    first = jets.batch, jets.sizes
    jets.ptr = jets.ptr[[0, 2, -1]]
    assert jets.sizes == [first[1][0] + first[1][1], sum(first[1][2:])]
    assert jets.batch.bincount().tolist() == jets.sizes
    torch.testing.assert_close(jets.sums(), JetBatch(jets.momenta, jets.ptr).sums(), rtol=0, atol=0)


@pytest.mark.parametrize("change", [lambda pt: pt.mul_(2), lambda pt: pt.__setitem__(3, 50.0)])
def test_sums_follow_changes_in_place(change):
    jets = random_jets(COUNTS)
    jets.sums()
    change(jets.momenta.pt)
    expected = JetBatch(jets.momenta, jets.ptr).sums()
    for each in (deepcopy(jets), pickle.loads(pickle.dumps(jets)), jets):
        torch.testing.assert_close(each.sums(), expected, rtol=0, atol=0)


def test_graph_of_each_particle_comes_first():
    """Subgraphs of a batch keep its former ptr, and a single ``Data`` may hold several jets."""
    batch = Batch.from_data_list(random_jets(COUNTS).to_data_list())
    some = torch.arange(batch.num_nodes) % 3 != 0
    some[batch.ptr[1] :][: COUNTS[1]] = False
    found, expected = JetBatch.from_data(batch.subgraph(some)), random_jets(COUNTS).batch[some]
    assert found.batch.tolist() == expected.tolist()
    assert len(found) == len(COUNTS)
    flat = Data(**random_jets([3, 5]).momenta._asdict(), batch=torch.tensor([0] * 3 + [1] * 5))
    assert JetBatch.from_data(flat).ptr.tolist() == [0, 3, 8]
    torch.testing.assert_close(JetBatch.from_data(flat).sums(), random_jets([3, 5]).sums(), rtol=0, atol=0)
    last = Data(**Batch.from_data_list(random_jets([3, 0, 2, 0]).to_data_list()).to_dict())
    assert JetBatch.from_data(last).ptr.tolist() == [0, 3, 3, 5, 5]
    for numbers in ([0] * 3 + [1] * 4 + [0], [-1] * 3 + [0] * 5):
        flat.batch = torch.tensor(numbers)
        with pytest.raises(ValueError, match="batch of these graphs is not ascending from 0: sort the particles by"):
            JetBatch.from_data(flat)
    flat.batch = torch.tensor(numbers).float()
    with pytest.raises(ValueError, match=r"batch of these graphs is torch\.float32, expected the number of each"):
        JetBatch.from_data(flat)


def test_numbers_of_graphs_are_at_least_float32():
    whole = Data(**{name: torch.tensor([100, 50]) for name in ("pt", "mass")}, rapidity=HALVES, phi=HALVES)
    exact = Data(**{name: torch.tensor([100.0, 50.0]) for name in ("pt", "mass")}, rapidity=HALVES, phi=HALVES)
    torch.testing.assert_close(JetBatch.from_data(whole).sums(), JetBatch.from_data(exact).sums(), rtol=0, atol=0)
    half = Data(**{name: getattr(exact, name).half() * 8 for name in ("pt", "rapidity", "phi", "mass")})
    assert JetBatch.from_data(half).node_features("kin").isfinite().all()
    exact.mass = exact.mass.double()
    assert {column.dtype for column in JetBatch.from_data(exact).momenta} == {torch.float64}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pt": [1.0, 2.0, 3.0]}, "pt of these graphs is of type list, expected a tensor"),
        ({"mass": torch.zeros(1)}, "mass of these graphs has 1 values for 3 particles"),
        ({"pid": torch.zeros(4)}, "pid of these graphs has 4 values for 3 particles"),
        ({"y": torch.tensor([[0, 1]])}, "y of these graphs has 2 values for 1 jets"),
        ({"weight": torch.ones(3)}, "weight of these graphs has 3 values for 1 jets"),
    ],
)
def test_columns_that_do_not_fit_are_named(change, message):
    graph = random_jets([3]).to_data_list()[0].update(change)
    with pytest.raises(ValueError, match=f"^{message}$"):
        JetBatch.from_data(graph)


def test_models_read_only_what_they_need():
    graphs = random_jets([3, 5]).to_data_list()
    graphs[0].y = torch.tensor([[0.2, 0.8]])
    graphs[1].y = torch.tensor([[0.7, 0.3]])
    graphs[1].jet_id = 7
    jets, edges = jets_and_edges(graphs, None)
    assert edges is None
    assert jets.y is None
    assert jets.sizes == [3, 5]


def test_graphs_and_parts_have_the_same_columns():
    some, more = random_jets([3, 5]), replace(random_jets([2]), pid=None)
    for parts in ([some, more], [more, some]):
        with pytest.raises(ValueError, match=r"^only some of these jets have pid: give it to all"):
            JetBatch.concatenate(parts)
        with pytest.raises(ValueError, match=r"^only some of these graphs have pid: give it to all"):
            JetBatch.from_data([graph for part in parts for graph in part.to_data_list()])
    with pytest.raises(ValueError, match="no jets to concatenate"):
        JetBatch.concatenate([])


def test_adjacencies_of_graphs_are_not_ignored():
    graph = random_jets([3]).to_data_list()[0].update({"adj_t": torch.eye(3)})
    with pytest.raises(ValueError, match="these graphs have adj_t, but models of jets take edge_index"):
        jets_and_edges(graph, None)


def test_jets_are_moved_not_cast():
    with pytest.raises(TypeError, match=r"for float64, use JetBatch.double"):
        random_jets([3]).to(torch.float64)
    assert random_jets([3]) != random_jets([3])  # compared as objects


def test_padding_of_graphs_can_be_dropped_as_advised():
    jets = random_jets(COUNTS)
    padded = []
    for graph in jets.to_data_list():
        columns = {key: torch.cat([value, value.new_zeros(9)]) for key, value in graph if key not in ("y", "num_nodes")}
        padded.append(Data(num_nodes=graph.num_nodes + 9, y=graph.y, **columns))
    with pytest.raises(ValueError, match=r"pt = 0, .*; of each jet, graph\.subgraph\(graph\.pt > 0\) drops padding"):
        JetBatch.from_data(padded)
    back = JetBatch.from_data([graph.subgraph(graph.pt > 0) for graph in padded])
    assert all(torch.equal(a, b) for a, b in zip(back.momenta, jets.momenta, strict=True))
    assert torch.equal(back.ptr, jets.ptr)
    assert torch.equal(back.y, jets.y)


def test_label_of_a_single_graph_may_be_a_number():
    data = random_jets([5]).to_data_list()[0]
    data.y, data.weight = 1, 0.5
    jets = JetBatch.from_data(data).double()
    assert (jets.y.tolist(), jets.weight.tolist()) == ([1], [0.5])
    assert jets.part(0, 1).y.tolist() == [1]
    assert JetBatch.from_data([data, data]).y.tolist() == [1, 1]


def test_data_sets_of_pyg_are_lists_of_graphs():
    class Graphs(InMemoryDataset):
        def __init__(self, graphs):
            super().__init__()
            self.data, self.slices = self.collate(graphs)

    jets = random_jets(COUNTS)
    for source in (Graphs(jets.to_data_list())[1:], iter(jets.to_data_list()[1:])):
        assert JetBatch.from_data(source).sizes == COUNTS[1:]
