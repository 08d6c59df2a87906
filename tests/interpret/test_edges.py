import sys

import pytest
import torch
from studies.test_pruning_plan import tiny

from iagraph.interpret.edges import find_kept_edges, kinds_of_edges
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta, charge, pair_mass2, wrap_phi
from iagraph.nn.pruning import EdgeBudget, TopK
from iagraph.observables import subjets
from iagraph.studies.pruning.rules import with_rule
from iagraph.studies.pruning.study import kept_edges_table
from iagraph.testing import random_jets

SIZES = [5, 1, 0, 2, 9]


def two_prongs(wide=0.0):
    """Three particles around phi = 3, two around phi = 3.5 = -2.8, 0.5 apart; others if their axis is moved."""
    phi = wrap_phi(torch.tensor([3.0, 3.01, 2.98, 3.5 + wide, 3.52 + wide]))
    pt = torch.tensor([50.0, 20, 10, 40, 30])
    return JetBatch(Momenta(pt, torch.zeros(5), phi, torch.zeros(5)), torch.tensor([0, 5]))


def test_kept_edges_equal_those_of_loops(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjet", None)
    tagger, batches = with_rule(tiny(), EdgeBudget(fraction=0.5)), [random_jets(SIZES, 1), random_jets([4, 0], 2)]
    found = find_kept_edges(tagger, batches)
    assert found.between_subjets is None
    expected = []
    for jets in batches:
        _, weights = tagger(jets, return_attention_weights=True)
        first, last = (set(map(tuple, weights[layer][0].t().tolist())) for layer in (0, 1))
        for jet in range(len(jets)):
            particles = range(int(jets.ptr[jet]), int(jets.ptr[jet + 1]))
            for target in particles:
                for source in particles:
                    if source != target:
                        one, other = (jets.momenta.select(torch.tensor(each)) for each in (source, target))
                        distance = torch.hypot(one.rapidity - other.rapidity, wrap_phi(one.phi - other.phi))
                        kt = torch.minimum(one.pt, other.pt) * distance
                        numbers = [float(value.log()) for value in (kt, distance, pair_mass2(one, other))]
                        flags = [(source, target) in first, (source, target) in last, charge(jets.pid[source]) != 0]
                        expected.append([*numbers, *map(float, flags)])
    rows = torch.cat([found.features, found.kept, found.charged.unsqueeze(0)]).t()
    torch.testing.assert_close(rows, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    everything, first, last = kinds_of_edges(found)
    assert everything["number"] == 20 + 2 + 72 + 12
    assert (first["number"], last["number"]) == (10 + 1 + 36 + 6, 5 + 1 + 18 + 3)
    kept = [row for row in expected if row[3]]
    assert first["charged source"] == pytest.approx(sum(row[5] for row in kept) / len(kept))
    assert first["neutral source"] == pytest.approx(1 - first["charged source"])
    assert first["between subjets"] is None


def test_unknown_species_and_empty_jets():
    jets = random_jets([0, 1, 1])
    jets.pid = None
    found = find_kept_edges(with_rule(tiny(), TopK(k=1)), [jets])
    assert found.features.shape == (3, 0)
    table = kept_edges_table(kinds_of_edges(found))
    assert table.cells()[1] == ["all edges", "0", "-", "-", "-"]


def test_subjets_of_two_prongs():
    pytest.importorskip("fastjet")
    one, two = two_prongs(), random_jets([1, 0, 2])
    jets = JetBatch.concatenate([one, JetBatch(two.momenta, two.ptr)])
    found = subjets(jets).tolist()
    assert found[0] == found[1] == found[2] != found[3] == found[4]
    assert found[5] == -1  # the only one in its jet
    assert sorted(found[6:]) == [0, 1]
    kept = find_kept_edges(with_rule(tiny(), None), [one])
    assert kinds_of_edges(kept)[0]["between subjets"] == 12 / 20  # 2 * 3 * 2 of 5 * 4 edges
    assert kept_edges_table(kinds_of_edges(kept)).cells() == [
        ["edges", "number", "charged source", "neutral source", "between subjets"],
        ["all edges", "20", "-", "-", "0.6000"],
        ["after first layer", "20", "-", "-", "0.6000"],
        ["after last layer", "20", "-", "-", "0.6000"],
    ]


def test_beam_particles_are_in_no_subjet():
    pytest.importorskip("fastjet")
    jets = two_prongs(0.7)  # 1.2 apart
    jets.momenta.pt[2:] = torch.tensor([0.5, 40.0, 30.0])
    assert sorted(set(subjets(jets).tolist())) == [0, 1]
    jets.momenta.phi[2] = 1.0  # 2 from all others, and soft
    found = subjets(jets).tolist()
    assert found[2] == -1
    assert found[0] == found[1] != found[3] == found[4]


def test_number_of_subjets_can_be_chosen():
    pytest.importorskip("fastjet")
    prongs = two_prongs()
    phi = torch.tensor([3.0, 3.01, 3.3, 3.31, 3.55])
    pt = torch.tensor([50.0, 20, 40, 10, 30])
    three = JetBatch(Momenta(pt, torch.zeros(5), wrap_phi(phi), torch.zeros(5)), torch.tensor([0, 5]))
    two = random_jets([2], 1)
    jets = JetBatch.concatenate([three, prongs, JetBatch(two.momenta, two.ptr)])
    found = subjets(jets, [3, 2, 3]).tolist()
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len({found[0], found[2], found[4]}) == 3
    assert found[5:10] == subjets(prongs).tolist()
    assert found[10:] == [-1, -1]  # two particles cannot form three subjets
    assert subjets(three, 3).tolist() == found[:5]
