import torch

from iagraph.models import CascadedIAFormer, IAFormer, PlainTransformer
from iagraph.models.costs import cost, multiply_adds
from iagraph.nn import EdgeBudget, TopK
from iagraph.testing import random_jets

COUNTS = [7, 1, 0, 5]
JETS = random_jets(COUNTS)
SIZES = {"width": 15, "blocks": 2, "heads": 3, "particle_hidden": (17,)}
# Maps of a particle: 7-17-15, and in each of two blocks values, result, 15-60-15; of a jet: 15-2.
OF_PARTICLES = 13 * (7 * 17 + 17 * 15 + 2 * (2 * 15 * 15 + 2 * 15 * 60)) + 4 * 15 * 2


def test_edges_of_each_jet_and_head():
    torch.manual_seed(1)
    model = IAFormer(**SIZES, pair_hidden=(11,), pair_width=7, pruning=TopK(2, per_head=True))
    found = cost(model, JETS)
    assert found.all_edges.tolist() == [49, 1, 0, 25]
    for layer in found.layers:
        # Each head keeps two edges and that with itself; another head may want others.
        assert layer.edges_of_head.tolist() == [[21] * 3, [1] * 3, [0] * 3, [15] * 3]
        assert (layer.edges >= layer.edges_of_head.max(1).values).all()
        assert 0 < layer.beta.item() < 1
    assert found.kept == [float(layer.edges.sum()) / 75 for layer in found.layers]
    assert found.layers[1].edges.sum() < found.layers[0].edges.sum() < 75
    assert model.training


def test_multiply_adds_of_a_cascade_by_hand():
    model = CascadedIAFormer(**SIZES, pair_hidden=(11,), pair_width=7, gate_hidden=5, gate_fraction=0.3)
    pairs, kept = 28 + 1 + 15, (7 + 7) + 1 + (3 + 5)  # 0.3 of 21 and of 10 pairs, and those with itself
    edges = (14 + 7) + 1 + (6 + 5)
    gate = pairs * (6 * 5 + 5)
    blocks = 2 * (kept * (6 * 11 + 11 * 7 + 7 * 6) + edges * 15)
    assert multiply_adds(model, JETS) == OF_PARTICLES + gate + blocks
    assert cost(model, JETS).multiply_adds == multiply_adds(model, JETS)


def test_multiply_adds_along_edges_by_hand():
    """A rule makes a list of edges, although the first one drops none."""
    rule, pairs, edges = TopK(100), 28 + 1 + 15, 49 + 1 + 25
    model = IAFormer(**SIZES, pair_hidden=(11,), pair_width=7, pruning=rule)
    expected = OF_PARTICLES + pairs * (6 * 11 + 11 * 7 + 2 * 7 * 6) + 2 * edges * 15
    assert multiply_adds(model, JETS) == expected
    plain = PlainTransformer(**SIZES)
    for conv in plain.convs():
        conv.pruning = rule
    queries_and_keys = 13 * 2 * 2 * 15 * 15 + 2 * edges * 15
    assert multiply_adds(plain, JETS) == OF_PARTICLES + queries_and_keys + 2 * edges * 15
    for conv in plain.convs():
        conv.pruning = TopK(2)
    kept = (7 + 14) + 1 + (5 + 10)  # each particle keeps itself and two others; the second block sees only these
    along_edges = 15 * (edges + kept) + 15 * (kept + kept)
    assert multiply_adds(plain, JETS) == OF_PARTICLES + 13 * 2 * 2 * 15 * 15 + along_edges


def test_fewer_edges_cost_fewer_multiply_adds():
    settings = SIZES | {"pair_hidden": (11,), "pair_width": 7, "gate_fraction": 0.4}  # below LIST_BELOW
    all_of_it = multiply_adds(CascadedIAFormer(**settings | {"gate_fraction": 1.0}), JETS)
    gated = multiply_adds(CascadedIAFormer(**settings), JETS)
    assert multiply_adds(CascadedIAFormer(**settings, pruning=EdgeBudget(fraction=0.4)), JETS) < gated < all_of_it
