from dataclasses import replace

import torch

from iagraph.studies.species import SPECIES, species
from iagraph.testing import random_jets


def test_kinds():
    pid = torch.tensor([211, -2112, 22, 11, -13, 15, -321, 130])
    jets = replace(random_jets([5, 0, 3], 1), pid=pid)
    names = [SPECIES[kind] for kind in species(jets).tolist()]
    hadrons = ["charged hadron", "neutral hadron"]
    assert names == [*hadrons, "photon", "electron", "muon", "other", *hadrons]


def test_unknown_and_no_particles():
    assert species(replace(random_jets([5], 1), pid=None)) is None
    assert species(random_jets([0, 0], 1)).shape == (0,)
