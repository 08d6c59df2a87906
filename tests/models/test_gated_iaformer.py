import pytest
import torch

from iagraph.graph import fully_connected
from iagraph.models import GatedIAFormer, IAFormer
from iagraph.models.accounts import account, multiply_adds
from iagraph.nn import EdgeBudget
from iagraph.testing import random_jets

COUNTS = [7, 1, 13, 0, 2, 11]
SIZES = {"num_classes": 3, "width": 15, "blocks": 2, "heads": 5, "particle_hidden": (17,)}
PAIRS = {"pair_hidden": (11,), "pair_width": 7}


def gated(fraction, seed=1):
    torch.manual_seed(seed)
    net = GatedIAFormer(**SIZES, **PAIRS, gate_hidden=5, gate_fraction=fraction).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def jets(counts=COUNTS):
    return random_jets(counts, dtype=torch.float64)


def twin(net):
    """IAFormer with the same weights, but for the gate."""
    iaformer = IAFormer(**SIZES, **PAIRS).double().eval()
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith("pair_inputs.gate.")}
    iaformer.load_state_dict(weights)
    return iaformer


def test_with_nothing_dropped_it_is_iaformer_where_the_gate_says_nothing():
    net = gated(1.0)
    assert (net(jets()) - twin(net)(jets())).abs().max() > 1e-3
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    torch.testing.assert_close(net(jets()), twin(net)(jets()), rtol=0, atol=1e-12)


def test_where_the_gate_says_nothing_it_is_iaformer_on_the_edges_that_are_left():
    net = gated(0.4)
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    logits, weights = net(jets(), return_attention_weights=True)
    edge_index, _, edge_ids = weights[0]
    assert torch.equal(fully_connected(jets().ptr)[:, edge_ids], edge_index)
    assert edge_ids.numel() < 0.6 * fully_connected(jets().ptr).size(1)
    torch.testing.assert_close(logits, twin(net)(jets(), edge_index), rtol=0, atol=1e-12)


def test_every_layer_has_the_edges_of_the_gate():
    _, weights = gated(0.4)(jets(), return_attention_weights=True)
    assert torch.equal(weights[0][2], weights[1][2])
    kept = account(gated(0.4), jets()).layers[0].edges.tolist()
    # Both edges of 0.4 of the pairs, rounded up, and each particle with itself.
    assert kept == [2 * 9 + 7, 1, 2 * 32 + 13, 0, 2 * 1 + 2, 2 * 22 + 11]


def test_a_rule_leaves_each_block_some_of_what_the_one_before_has_left():
    net = gated(0.6)
    for conv in net.convs():
        conv.pruning = EdgeBudget(0.5)
    _, (first, second) = net(jets(), return_attention_weights=True)
    assert set(second[2].tolist()) < set(first[2].tolist())


def test_memory_for_the_gradients_falls_with_the_pairs():
    def kept(fraction):
        saved = []

        def pack(tensor):
            saved.append(tensor.untyped_storage())
            return tensor

        net = GatedIAFormer(**SIZES, **PAIRS, gate_fraction=fraction)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(random_jets([40] * 8)).sum()
        return sum({storage.data_ptr(): storage.nbytes() for storage in saved}.values())

    few, some, every = kept(0.1), kept(0.3), kept(1.0)
    assert few < 0.7 * some < 0.4 * every
    # What remains, of particles and of the gate, is the same for all; the rest is proportional to the pairs.
    assert (some - few) / 0.2 == pytest.approx((every - some) / 0.7, rel=0.05)


def test_multiply_adds_by_hand():
    net = GatedIAFormer(**SIZES, **PAIRS, gate_hidden=5, gate_fraction=0.4)
    particles = 18 * (7 * 17 + 17 * 15 + 2 * (2 * 15 * 15 + 2 * 15 * 60)) + 2 * 15 * 3
    pairs, kept, edges = 28 + 66, (9 + 7) + (22 + 11), (18 + 7) + (44 + 11)
    encoded = kept * (6 * 11 + 11 * 7 + 2 * 7 * 10)
    assert multiply_adds(net, random_jets([7, 11])) == particles + pairs * (6 * 5 + 5) + encoded + 2 * edges * 15


def test_an_encoder_sees_the_survivors_alone():
    net, seen = gated(0.3), []
    net.pair_encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].size(0)))
    net(jets([10]))
    assert seen == [10 + 14]


@pytest.mark.parametrize("fraction", [0.0, 1.1])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction"):
        gated(fraction)
