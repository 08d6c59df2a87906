import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import fully_connected
from iagraph.interpret.binarity import binarity, correlation, row_flags, row_numbers, score_ratios
from iagraph.interpret.recording import LayerAttention, record_attention
from iagraph.interpret.rows import Rows
from iagraph.interpret.sums import added
from iagraph.models import IAFormer, InteractionTransformer, PairTransformer, ParticleTransformer, PlainTransformer
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 13, 2]
SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7]}
PAIRS = {"pair_hidden": [5], "pair_width": 11}


def randomised(model, std=1.0, seed=1):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=random)
    return model.double().eval()


def part():
    return randomised(ParticleTransformer(**SMALL, class_blocks=1, pair_hidden=[5]))


def softmax_layer(content, pair):
    """A layer of one head on one jet, from scores [targets, sources]."""
    size = content.size(0)
    edges = fully_connected(torch.tensor([0, size]))
    alpha = (content + pair).softmax(1).view(-1, 1)
    return LayerAttention(edges, alpha, alpha, content.view(-1, 1), pair.view(-1, 1))


def test_flags_by_hand():
    content = torch.tensor([[0.0, 9.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    pair = torch.tensor([[0.0, 0.0, 20.0], [5.0, 5.0, 5.0], [0.0, 0.0, 2.9]])
    layer = softmax_layer(content, pair)
    flags = {name: flag[:, 0].tolist() for name, flag in row_flags(layer, Rows.of(layer.edge_index, 3)).items()}
    assert flags["flip"] == [True, False, False]
    assert flags["non_binary"] == [False, True, True]  # e^11; e against 1, 1; 20 against 18 and 1
    assert flags["flip_and_non_binary"] == [False] * 3
    assert flags["non_binary_others"] == [False, True, False]  # 3.0 against 0.0 in the last row
    assert flags["pair_spreads_more"] == [True, False, False]
    assert flags["row"] == flags["row_others"] == [True] * 3


def test_numbers_by_hand():
    layer = softmax_layer(torch.tensor([[100.0, 0], [0, 0]]), torch.tensor([[0.0, 0], [math.log(3), 0]]))
    numbers = row_numbers(layer, Rows.of(layer.edge_index, 2))
    h = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert_close(numbers["entropy"], torch.tensor([[0.0], [h]]))
    assert_close(numbers["neighbours"], torch.tensor([[1.0], [math.exp(h)]]))
    assert_close(numbers["relative"], torch.tensor([[0.5], [math.exp(h) / 2]]))
    assert_close(numbers["self"], torch.tensor([[1.0], [0.25]]))
    assert_close(numbers["content_spread"], torch.tensor([[50.0], [0.0]]))
    assert_close(numbers["pair_spread"], torch.tensor([[0.0], [math.log(3) / 2]]))


def test_ratios_in_decades():
    a, u = torch.tensor([0.5, -1.0, 30.0, 0.0, 7.0, 0.0, 2e7]), torch.tensor([1.0, 1.0, -1.0, 3.0, 0.0, 0.0, 1.0])
    assert score_ratios(a, u).tolist() == [2, 1, 1, 0, 0, 0, 0, 2]  # 0 / 0 is none, 7 / 0 is infinite


def test_ratios_compare_aligned_real_pairs():
    """Compared with loops over the dense matrices of each single jet, where nothing can be misaligned."""
    model, counts = part(), torch.zeros(8, dtype=torch.float64)
    jets = random_jets(COUNTS, 1).double()
    found = binarity(record_attention(model, jets).layers, jets)
    for jet in range(len(jets)):
        layer = record_attention(model, jets.part(jet, jet + 1)).layers[1]
        for a, u in zip(layer.content.flatten().tolist(), layer.pair.flatten().tolist(), strict=True):
            place = 7 if u == 0 else 1 + math.floor(math.log10(abs(a / u)))
            counts[min(max(place, 0), 7)] += 1
    assert counts.sum() == 3 * sum(n * n for n in COUNTS)
    assert_close(found.histograms["ratio"][1], counts)
    assert found.histograms["ratio_others"][1].sum() == 3 * sum(n * (n - 1) for n in COUNTS)


def test_even_attention_reaches_all_particles():
    model, jets = part(), random_jets(COUNTS, 2).double()
    with torch.no_grad():
        for conv in model.convs():
            conv.lin_query.weight.zero_()
            conv.lin_query.bias.zero_()
        model.pair_encoder[-2].weight.zero_()  # GELU of what the last norm makes zero
        model.pair_encoder[-2].bias.zero_()
    found = binarity(record_attention(model, jets).layers, jets)
    sizes = torch.tensor(COUNTS, dtype=torch.float64)
    for layer in range(2):
        assert_close(found.layers["neighbours"][:, layer], 3 * sizes * sizes)  # heads * particles * n
        assert_close(found.layers["relative"][:, layer], 3 * sizes)
        assert_close(found.layers["self"][:, layer], 3 * (sizes > 0).double())
        assert found.layers["non_binary"][:, layer].tolist() == [15, 0, 0, 39, 6]  # a single particle is binary
        # Of two particles one is left without the edge to itself.
        assert found.layers["non_binary_others"][:, layer].tolist() == [15, 0, 0, 39, 0]
        assert found.layers["row_others"][:, layer].tolist() == [15, 0, 0, 39, 6]
    assert found.layers["flip"].sum() == 0


def test_one_hot_attention():
    jets = random_jets(COUNTS, 3)
    edges = fully_connected(jets.ptr)
    own = (edges[0] == edges[1]).float().unsqueeze(1).repeat(1, 2)
    layer = LayerAttention(edges, own, own, None, own)
    found = binarity([layer], jets)
    assert found.layers["non_binary"].sum() == found.layers["entropy"].sum() == 0
    assert found.layers["neighbours"].flatten().tolist() == [10, 0, 2, 26, 4]
    assert found.layers["self"].flatten().tolist() == [10, 0, 2, 26, 4]
    weights, largest = found.histograms["weights"][0], found.histograms["largest"][0]
    ones = 2 * sum(COUNTS)
    assert (weights[-1], weights[50], weights.sum()) == (ones, 2 * (25 + 1 + 169 + 4) - ones, 2 * (25 + 1 + 169 + 4))
    assert largest[-1] == largest.sum() == ones
    assert "flip" not in found.layers


def test_flips_without_queries_or_without_pairs():
    model, jets = part(), random_jets(COUNTS, 4).double()
    layers = record_attention(model, jets).layers
    constant = [layer._replace(pair=torch.full_like(layer.pair, 3.0)) for layer in layers]
    found = binarity(constant, jets)
    assert found.layers["flip"].sum() == 0
    assert found.layers["pair_spread"].sum() < 1e-12
    assert binarity(layers, jets).layers["flip"].sum() > 0


def test_flips_against_loops():
    model, jets = part().requires_grad_(False), random_jets(COUNTS, 5).double()
    layers = record_attention(model, jets).layers
    found, ever = binarity(layers, jets), set()
    for number, layer in enumerate(layers):
        flips, once = 0, set()
        for particle in range(sum(COUNTS)):
            mine = layer.edge_index[1] == particle
            a, total = layer.content[mine].numpy(), (layer.content + layer.pair)[mine].numpy()
            differ = a.argmax(0) != total.argmax(0)
            flips += differ.sum()
            once |= {particle} if differ.any() else set()
        assert found.layers["flip"][:, number].sum() == flips
        assert found.layers["flip tokens"][:, number].sum() == len(once)
        ever |= once
    assert found.jets["flip tokens"].sum() == len(ever)
    assert found.jets["row tokens"].tolist() == COUNTS


def test_differential_attention_by_hand():
    edges = fully_connected(torch.tensor([0, 2]))
    first = torch.tensor([0.9, 0.1, 0.6, 0.4])
    second = torch.tensor([0.9, 0.1, 0.1, 0.9])
    alpha = first - 0.5 * second  # rows 0.45, 0.05 and 0.55, -0.05
    layer = LayerAttention(edges, alpha.unsqueeze(1), torch.stack([first, second], 1), None, second.unsqueeze(1))
    rows = Rows.of(edges, 2)
    flags = {name: flag[:, 0].tolist() for name, flag in row_flags(layer, rows).items()}
    assert flags["maps_differ"] == [False, True]
    assert flags["subtraction"] == [False, False]
    assert flags["non_binary"] == [False, False]
    assert flags["non_binary_first"] == [False, True]
    assert flags["non_binary_second"] == [False, False]
    assert "flip" not in flags
    assert_close(row_numbers(layer, rows)["self"], torch.tensor([[0.9], [0.05 / 0.6]]))
    larger = layer._replace(alpha=(first - 0.9 * second).unsqueeze(1))  # 0.51 and -0.41: the sign does not count
    assert row_flags(larger, rows)["subtraction"][:, 0].tolist() == [False, False]
    assert row_flags(larger, rows)["non_binary"][:, 0].tolist() == [False, True]


@pytest.mark.parametrize(
    ("model", "flips"),
    [
        (lambda: IAFormer(**SMALL, **PAIRS), {"maps_differ", "subtraction"}),
        (lambda: InteractionTransformer(**SMALL, **PAIRS), {"flip"}),
        (lambda: PairTransformer(**SMALL, **PAIRS), set()),
        (lambda: PlainTransformer(**SMALL), set()),
    ],
)
def test_scores_available_in_each_model(model, flips):
    jets = random_jets(COUNTS, 6).double()
    found = binarity(record_attention(randomised(model()), jets).layers, jets)
    assert {"maps_differ", "subtraction", "flip"} & set(found.layers) == flips
    assert (found.histograms["weights"][:, :50].sum() > 0) == ("maps_differ" in flips)
    assert all(torch.isfinite(sums).all() for sums in found.layers.values())


def test_batches_add_up():
    model, jets = part(), random_jets(COUNTS, 7).double()
    whole = binarity(record_attention(model, jets).layers, jets)
    pieces = [jets.part(0, 2), jets.part(2, 5)]
    together = added(binarity(record_attention(model, piece).layers, piece) for piece in pieces)
    assert_close(together.layers, whole.layers)
    assert_close(together.jets, whole.jets)
    assert_close(together.histograms, whole.histograms)


def test_correlation_is_that_of_pearson():
    random = np.random.default_rng(1)
    a = random.random(331) < 0.3
    b = (random.random(331) < 0.2) ^ a
    sums = torch.tensor([[331, a.sum(), b.sum(), (a & b).sum()], [331, 0, b.sum(), 0]], dtype=torch.float64)
    assert correlation(sums)[0].item() == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(sums)[1].isnan()
