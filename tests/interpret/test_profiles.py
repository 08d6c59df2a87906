import math
from dataclasses import replace

import pytest
import torch

from iagraph.interpret import profiles
from iagraph.interpret.particles import SPECIES
from iagraph.interpret.profiles import (
    axis_distance,
    fraction_by_species,
    fraction_by_subjet,
    fraction_of_hardest,
    relative_relevance,
    sums_in_bins,
)
from iagraph.testing import boosted, random_jets


def with_pt(jets, pt):
    return replace(jets, momenta=jets.momenta._replace(pt=torch.tensor(pt)))


def test_relative_relevance():
    jets = random_jets([3, 0, 2, 1], 1)
    relevance = torch.tensor([1.0, -2.0, 3.0, 0.0, 0.0, -7.0])
    assert relative_relevance(relevance, jets).tolist() == [0.5, -1.0, 1.5, 0.0, 0.0, -1.0]


def test_distance_is_periodic_in_phi():
    jets = random_jets([5, 1, 8], 2)
    torch.testing.assert_close(axis_distance(jets), axis_distance(boosted(jets, 0.0, 2.0)), atol=1e-5, rtol=0)
    assert axis_distance(jets).max() < 1
    assert axis_distance(jets)[5] < 1e-6


def test_bins():
    jets = random_jets([3, 0, 2], 3)
    values, x = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), torch.tensor([0.5, 1.0, 9.0, -3.0, 2.5])
    assert sums_in_bins(values, x, (0.0, 1.0, 2.0, 3.0), jets).tolist() == [[1, 2, 4], [0, 0, 0], [8, 0, 16]]


def test_hardest():
    jets = with_pt(random_jets([3, 0, 2], 4), [1.0, 5.0, 2.0, 7.0, 9.0])
    found = fraction_of_hardest(torch.tensor([0.5, 1.0, 2.5, 0.0, 0.0]), jets, (1, 2, 3))
    assert found[0].tolist() == [0.25, 0.875, 1.0]
    assert found[1:].isnan().all()  # no particle, no relevance


def test_species():
    jets = replace(random_jets([3, 2], 5), pid=torch.tensor([211, 22, -211, 13, 2112]))
    found = fraction_by_species(torch.tensor([1.0, -4.0, 3.0, -1.0, 1.0]), jets)
    assert found[0].tolist() == [0.5, 0, -0.5, 0, 0, 0]
    assert found[1][SPECIES.index("muon")] == -0.5
    assert found[1][SPECIES.index("neutral hadron")] == 0.5
    assert fraction_by_species(torch.ones(5), replace(jets, pid=None)) is None


def test_subjets_by_hand(monkeypatch):
    jets = with_pt(random_jets([4, 1, 0], 6), [1.0, 2.0, 8.0, 1.0, 3.0])
    monkeypatch.setattr(profiles, "subjets", lambda _: torch.tensor([0, 0, 1, -1, -1]))
    found = fraction_by_subjet(torch.tensor([1.0, 2.0, 4.0, 1.0, 5.0]), jets)
    assert found[0].tolist() == [0.5, 0.375, 0.125]  # the harder one first
    assert found[1:].isnan().all()
    monkeypatch.setattr(profiles, "subjets", lambda _: None)
    assert fraction_by_subjet(torch.ones(5), jets) is None


def test_subjets_of_fastjet():
    pytest.importorskip("fastjet")
    jets = random_jets([9, 1, 13], 7)
    fractions = fraction_by_subjet(jets.momenta.pt, jets)
    assert fractions[[0, 2]].sum(1).tolist() == pytest.approx([1, 1])
    assert (fractions[[0, 2], 0] >= fractions[[0, 2], 1]).all()
    assert math.isnan(fractions[1, 0])
