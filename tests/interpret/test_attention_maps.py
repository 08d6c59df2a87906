import math

import pytest
import torch
from torch.testing import assert_close

from iagraph.estimates import ratio
from iagraph.graph import fully_connected
from iagraph.interpret.attention_maps import MeanMaps, jet_maps
from iagraph.interpret.particles import ranks
from iagraph.interpret.recording import LayerAttention, record_attention
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta
from iagraph.models import IAFormer, ParticleTransformer
from iagraph.testing import random_jets, reordered

COUNTS = [5, 0, 1, 13, 2]


def jets_of(*pts):
    pt = torch.tensor([value for jet in pts for value in jet], dtype=torch.float64)
    ptr = torch.tensor([0, *map(len, pts)]).cumsum(0)
    return JetBatch(Momenta(pt, *(torch.zeros_like(pt) for _ in range(3))), ptr)


def layer(edges, alpha):
    return LayerAttention(torch.tensor(edges).t(), torch.tensor(alpha), torch.tensor(alpha), None, None)


def test_map_of_a_jet_by_hand():
    jets = jets_of([9, 9], [1, 7, 4])
    # Edges (source, target) of the second jet: ranks of particles 2, 3, 4 are 2, 0, 1.
    found = jet_maps(layer([(0, 1), (3, 2), (2, 2), (4, 3)], [[5.0], [0.5], [-0.25], [0.125]]), jets, 1)
    assert found.tolist() == [[[0, 0.125, 0], [0, 0, 0], [0.5, 0, -0.25]]]


def test_means_over_jets_that_have_both_ranks():
    maps = MeanMaps(heads=1, ranks=2)
    jets = jets_of([1, 2], [8], [], [3, 2, 1])
    # Ranks of the six particles: 1 0 | 0 | 0 1 2.
    edges = [(1, 0), (0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (5, 3), (3, 5)]
    maps.add(layer(edges, [[0.5], [0.25], [-1.0], [2.0], [3.0], [0.75], [7.0], [9.0]]), jets)
    assert maps.jets.tolist() == [[3, 2], [2, 2]]
    mean = [[(-1 + 2 + 3) / 3, (0 + 0.75) / 2], [(0.5 + 0) / 2, (0.25 + 0) / 2]]
    assert_close(maps.mean, torch.tensor([mean], dtype=torch.float64))
    values = torch.tensor([-1.0, 2, 3])
    assert float(maps.error[0, 0, 0]) == pytest.approx(float(values.std() / math.sqrt(3)))
    sums = {"positive": 0.5 + 0.25 + 2 + 3 + 0.75 + 7 + 9, "negative": 1, "own": 0.25 + 1 + 2 + 3}
    sums["hardest"] = 0.5 + 1 + 2 + 3 + 9
    for name, total in sums.items():
        assert maps.part(name).value == pytest.approx(total / 6)
    assert maps.negative_fraction().value == pytest.approx(1 / 23.5)


def test_ranks_without_jets():
    maps = MeanMaps(heads=2, ranks=3)
    maps.add(layer([(0, 0)], [[1.0, -1.0]]), jets_of([1], []))
    assert maps.mean.isnan().sum() == 16
    assert maps.mean[:, 0, 0].tolist() == [1, -1]
    assert maps.error.isnan().all()
    assert [maps.negative_fraction(head).value for head in (None, 0, 1)] == [0.5, 0, 1]


def test_even_attention():
    model = ParticleTransformer(
        pair_features=None, width=6, blocks=2, heads=3, particle_hidden=[7], class_blocks=1
    ).eval()
    torch.nn.init.zeros_(model.blocks[1].conv.lin_query.weight)
    torch.nn.init.zeros_(model.blocks[1].conv.lin_query.bias)
    jets, maps = random_jets(COUNTS, 1), MeanMaps(heads=3, ranks=4)
    with torch.inference_mode():
        maps.add(record_attention(model, jets).layers[1], jets)
    of_ranks = [(1 / 5 + 1 + 1 / 13 + 1 / 2) / 4, (1 / 5 + 1 / 13 + 1 / 2) / 3, (1 / 5 + 1 / 13) / 2]
    for rank, expected in enumerate([*of_ranks, of_ranks[2]]):
        assert_close(maps.mean[:, rank, : rank + 1], torch.full((3, rank + 1), expected, dtype=torch.float64))
        assert_close(maps.mean[:, : rank + 1, rank], torch.full((3, rank + 1), expected, dtype=torch.float64))
    assert maps.part("positive").value == pytest.approx(1)
    assert maps.part("own").value == pytest.approx(4 / 21)  # a jet's edges with themselves sum to one
    assert maps.negative_fraction().value == 0


@pytest.fixture
def signed():
    torch.manual_seed(1)
    model = IAFormer(width=6, blocks=2, heads=3, particle_hidden=[7], pair_hidden=[5], pair_width=11).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.requires_grad_(False)


def test_positive_and_negative_parts_differ_by_the_row_sum(signed):
    jets, maps = random_jets(COUNTS, 2).double(), MeanMaps(heads=3)
    maps.add(record_attention(signed, jets).layers[1], jets)
    beta = float(signed.convs()[1].beta)
    for head in (None, 0, 1, 2):
        positive, negative = maps.part("positive", head), maps.part("negative", head)
        assert negative.value > 0.01
        assert positive.value - negative.value == pytest.approx(1 - beta)
        assert positive.error == pytest.approx(negative.error)
        share = negative.value / (positive.value + negative.value)
        assert maps.negative_fraction(head).value == pytest.approx(share)


def test_batches_and_the_order_of_particles_do_not_matter(signed):
    jets = random_jets(COUNTS, 3).double()
    together, apart = MeanMaps(heads=3, ranks=7), MeanMaps(heads=3, ranks=7)
    together.add(record_attention(signed, jets).layers[0], jets)
    for part in (jets.part(0, 2), jets.part(2, 4), reordered(jets, [4], shuffle_particles=True)):
        apart.add(record_attention(signed, part).layers[0], part)
    assert_close(apart.mean, together.mean, equal_nan=True)
    assert_close(apart.error, together.error, equal_nan=True)
    assert apart.part("hardest") == pytest.approx(together.part("hardest"))


def test_ratio_has_the_spread_of_independent_jets():
    random = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 40, (80, 500), generator=random).double()
    sums = sizes * (0.3 + 0.1 * torch.randn(80, 500, generator=random))
    found = [ratio(above, below) for above, below in zip(sums, sizes, strict=True)]
    spread = torch.tensor([each.value for each in found]).std()
    assert sum(each.error for each in found) / 80 == pytest.approx(float(spread), rel=0.2)
    assert all(math.isnan(number) for number in ratio(torch.zeros(3), torch.zeros(3)))
    assert ratio(torch.tensor([1.0]), torch.tensor([4.0]))[0] == 0.25


def test_complete_jets_have_all_edges(signed):
    jets = random_jets([4], 4).double()
    recorded = record_attention(signed, jets).layers[0]
    rank, maps = ranks(jets.momenta.pt, jets), jet_maps(recorded, jets, 0)
    for (source, target), weights in zip(fully_connected(jets.ptr).t().tolist(), recorded.alpha, strict=True):
        assert_close(maps[:, rank[target], rank[source]], weights)
