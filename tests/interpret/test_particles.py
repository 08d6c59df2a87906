from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from iagraph.interpret.particles import SPECIES, keep, other_class, rank_match, ranks, species, take, transplant
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta
from iagraph.testing import random_jets, reordered


def test_donors_have_a_different_class():
    assert other_class(torch.tensor([0, 1, 0, 0, 1])).tolist() == [1, 0, 4, 1, 2]
    assert other_class(torch.tensor([2, 0, 5, 0])).tolist() == [2, 0, 1, 0]
    with pytest.raises(ValueError, match="two classes"):
        other_class(torch.tensor([1, 1]))


def test_jets_are_selected():
    jets = random_jets([5, 0, 3, 2], 1)
    places = [2, 1, 0, 2]
    mine, theirs = take(jets, torch.tensor(places)), reordered(jets, places)
    assert mine.ptr.tolist() == theirs.ptr.tolist() == [0, 3, 3, 8, 11]
    assert all(torch.equal(a, b) for a, b in zip(mine.momenta, theirs.momenta, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(mine.impact, theirs.impact, strict=True))
    assert mine.pid.equal(theirs.pid)
    assert mine.y.equal(theirs.y)
    jets.weight, jets.targets = torch.rand(4), torch.rand(4, 2)
    taken = take(jets, torch.tensor(places))
    assert taken.weight.equal(jets.weight[places])
    assert taken.targets.equal(jets.targets[places])


def with_pt(sizes, pt):
    pt = torch.tensor(pt)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return JetBatch(Momenta(pt, *(torch.zeros_like(pt) for _ in range(3))), ptr)


def test_particles_are_matched_by_rank():
    jets = with_pt([3, 1, 0, 2], [2.0, 9.0, 4.0, 1.0, 5.0, 5.0])
    donors = with_pt([2, 3, 1, 0], [10.0, 30.0, 7.0, 6.0, 8.0, 1.0])
    assert rank_match(jets, donors).tolist() == [-1, 1, 0, 4, -1, -1]
    own, theirs = torch.arange(6.0).unsqueeze(1), 10 + torch.arange(6.0).unsqueeze(1)
    assert transplant(own, theirs, rank_match(jets, donors)).flatten().tolist() == [0, 11, 10, 14, 4, 5]


def test_a_jet_matches_itself_in_any_order():
    jets = random_jets([7, 0, 1, 13], 2)
    shuffled = reordered(jets, range(4), shuffle_particles=True)
    assert_close(shuffled.momenta.pt[rank_match(jets, shuffled)], jets.momenta.pt)


def test_donors_without_particles():
    jets = random_jets([2, 3], 3)
    nobody = with_pt([0, 0], [])
    assert rank_match(jets, nobody).tolist() == [-1] * 5
    assert rank_match(nobody, jets).tolist() == []


def test_kinds():
    pid = torch.tensor([211, -2112, 22, 11, -13, 15, -321, 130])
    jets = replace(random_jets([5, 0, 3], 1), pid=pid)
    names = [SPECIES[kind] for kind in species(jets).tolist()]
    hadrons = ["charged hadron", "neutral hadron"]
    assert names == [*hadrons, "photon", "electron", "muon", "other", *hadrons]


def test_unknown_and_no_particles():
    assert species(replace(random_jets([5], 1), pid=None)) is None
    assert species(random_jets([0, 0], 1)).shape == (0,)


def test_ranks():
    jets = random_jets([3, 0, 4, 1], 1)
    worth = torch.tensor([0.5, 2.0, -1.0, 3.0, 3.0, 7.0, -2.0, 0.0])
    assert ranks(worth, jets).tolist() == [1, 0, 2, 1, 2, 0, 3, 0]


def test_kept_particles_keep_all_columns():
    jets = random_jets([3, 0, 4, 1], 2)
    kept = keep(jets, torch.tensor([1, 0, 1, 0, 0, 0, 1, 0], dtype=torch.bool))
    assert kept.ptr.tolist() == [0, 2, 2, 3, 3]
    for part, whole in zip(
        (*kept.momenta, kept.pid, *kept.impact), (*jets.momenta, jets.pid, *jets.impact), strict=True
    ):
        assert part.equal(whole[[0, 2, 6]])
    assert kept.y.equal(jets.y)
    assert kept.batch.tolist() == [0, 0, 2]
    jets.pid = jets.impact = None
    assert keep(jets, torch.ones(8, dtype=torch.bool)).pid is None
