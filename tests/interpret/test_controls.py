import math

import pytest
import torch

from iagraph.interpret.edges import CONTROLS, control
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta, wrap_phi
from iagraph.testing import random_jets

# Distances and kT [GeV] of the pairs: 01 .1 .1, 02 .3 1.5, 03 .7 1.4, 12 .2 .2, 13 .6 .6, 23 .4 .8; across phi = pi.
PT, PHI = [10.0, 1.0, 5.0, 2.0], [3.0, 3.1, 3.3, 3.7]
SELF = {(particle, particle) for particle in range(7)}


@pytest.fixture
def jets():
    """A jet of four particles on a line, one of one, an empty one, and one of two."""
    pt, phi = torch.tensor([*PT, 7.0, 3.0, 4.0]), wrap_phi(torch.tensor([*PHI, 0.0, 1.0, 1.5]))
    rapidity = torch.tensor([0.0] * 5 + [0.3, 0.3])
    return JetBatch(Momenta(pt, rapidity, phi, torch.zeros(7)), torch.tensor([0, 4, 5, 5, 7]))


def chosen(jets, name, strength):
    edges = control(name, strength)(jets)
    found = set(map(tuple, edges.t().tolist()))
    assert len(found) == edges.size(1)  # each once
    assert found >= SELF
    return found - SELF


def both(*pairs):
    return {edge for one, other in pairs for edge in ((one, other), (other, one))}


@pytest.mark.parametrize(
    ("name", "strength", "expected"),
    [
        ("largest kT", 0.3, both((0, 2), (0, 3), (5, 6))),  # 1.8 of 6 pairs, rounded up
        ("largest kT", 0.5, both((0, 2), (0, 3), (2, 3), (5, 6))),
        ("smallest Delta R", 0.3, both((0, 1), (1, 2), (5, 6))),
        ("smallest Delta R", 0.5, both((0, 1), (1, 2), (0, 2), (5, 6))),
        ("nearest neighbors", 1, {(1, 0), (0, 1), (1, 2), (2, 3), *both((5, 6))}),  # (source, target)
        ("nearest neighbors", 2, {(1, 0), (2, 0), (0, 1), (2, 1), (1, 2), (0, 2), (2, 3), (1, 3), *both((5, 6))}),
        ("nearest neighbors", 3, both((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (5, 6))),
    ],
)
def test_controls_by_hand(jets, name, strength, expected):
    assert chosen(jets, name, strength) == expected


def test_random_pairs_are_reproducible():
    sizes = [9, 1, 0, 13, 20]
    jets = random_jets(sizes)
    edges = control("random", 0.3)(jets)
    assert torch.equal(edges, control("random", 0.3)(jets))
    found = set(map(tuple, edges.t().tolist()))
    assert found == {(target, source) for source, target in found}
    of_jet = torch.bincount(jets.batch[edges[0]], minlength=5).tolist()
    assert of_jet == [size + 2 * math.ceil(0.3 * size * (size - 1) / 2) for size in sizes]
    distances = [target - source for source, target in found]
    assert len(set(distances)) > 15  # not a run of neighbours


@pytest.mark.parametrize(("name", "all_of_it"), [(name, 99 if "near" in name else 1.0) for name in CONTROLS])
def test_no_jets_no_particles_and_all_edges(name, all_of_it):
    assert control(name, all_of_it)(random_jets([0, 0])).shape == (2, 0)
    jets = random_jets([1, 0, 4])
    assert control(name, all_of_it)(jets).size(1) == 17
