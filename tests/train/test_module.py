import pytest
import torch

from iagraph.graphs import JetBatch
from iagraph.testing import random_jets
from iagraph.train.evaluation import MultiplicityTagger, flops_per_jet
from iagraph.train.module import labels_of, warmup_cosine


def test_schedule_by_hand():
    values = [warmup_cosine(p, 0.2, 0.1) for p in (0.0, 0.1, 0.2, 0.6, 1.0, 1.1)]
    assert values == pytest.approx([0.01, 0.5, 1.0, 0.55, 0.1, 0.1])
    assert warmup_cosine(0.0, 0.0, 0.0) == 1.0


def test_labels_are_needed():
    jets = random_jets([3])
    assert labels_of(jets) is jets.y
    with pytest.raises(ValueError, match="no labels"):
        labels_of(JetBatch(jets.momenta, jets.ptr))


class OneProduct(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(7, 5))

    def forward(self, jets):
        return jets.node_features("kin") @ self.weight


def test_flops_are_two_per_multiply_add_of_real_particles():
    # 3 + 8 particles in two jets, 7 x 5 multiply-adds each.
    assert flops_per_jet(OneProduct(), random_jets([3, 8])) == 2 * 11 * 7 * 5 / 2


def test_multiplicity_tagger_is_a_straight_line():
    import numpy as np

    tagger = MultiplicityTagger(slope=-0.5, intercept=3.0)
    assert tagger(np.array([2, 8])).tolist() == [[0, 2], [0, -1]]
