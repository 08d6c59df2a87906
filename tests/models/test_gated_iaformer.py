import pytest
import torch

from iagraph.graph import DenseGraph, SparseGraph, fully_connected
from iagraph.models import CascadedIAFormer, GatedIAFormer, IAFormer, gated_iaformer
from iagraph.models.costs import cost, multiply_adds
from iagraph.nn import EdgeBudget
from iagraph.testing import random_jets

COUNTS = [7, 1, 13, 0, 2, 11]
SIZES = {"num_classes": 3, "width": 15, "blocks": 2, "heads": 5, "particle_hidden": (17,)}
PAIRS = {"pair_hidden": (11,), "pair_width": 7}


def gated(fraction, model=GatedIAFormer):
    torch.manual_seed(1)
    net = model(**SIZES, **PAIRS, gate_hidden=5, gate_fraction=fraction).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def jets(counts=COUNTS):
    return random_jets(counts, dtype=torch.float64)


def twin(net):
    """IAFormer with the same weights, except for the gate."""
    iaformer = IAFormer(**SIZES, **PAIRS).double().eval()
    weights = {name: value for name, value in net.state_dict().items() if not name.startswith("pair_inputs.gate.")}
    iaformer.load_state_dict(weights)
    return iaformer


def test_equals_iaformer_without_drops_and_with_constant_gate():
    net = gated(1.0)
    assert (net(jets()) - twin(net)(jets())).abs().max() > 1e-3
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    torch.testing.assert_close(net(jets()), twin(net)(jets()), rtol=0, atol=1e-12)


def test_constant_gate_equals_iaformer_on_kept_edges():
    net = gated(0.4)
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    logits, weights = net(jets(), return_attention_weights=True)
    edge_index, _, edge_ids = weights[0]
    assert torch.equal(fully_connected(jets().ptr)[:, edge_ids], edge_index)
    assert edge_ids.numel() < 0.6 * fully_connected(jets().ptr).size(1)
    torch.testing.assert_close(logits, twin(net)(jets(), edge_index), rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", [GatedIAFormer, CascadedIAFormer])
def test_dense_blocks_and_edge_lists_agree(model, monkeypatch):
    net = gated(0.6, model)
    results = []
    for limit, form in ((0.0, DenseGraph), (2.0, SparseGraph)):
        monkeypatch.setattr(gated_iaformer, "LIST_BELOW", limit)
        seen = []
        hook = net.blocks[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[1]))
        logits = net(jets())
        hook.remove()
        assert type(seen[0]) is form
        net.zero_grad()
        (logits * torch.linspace(-1, 2, logits.numel()).view_as(logits)).sum().backward()
        results.append([logits, *(parameter.grad for parameter in net.parameters())])
    assert all(gradient.any() for gradient in results[0])
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("tightness", "form"), [(0.0, DenseGraph), (0.6, DenseGraph), (0.9, SparseGraph)])
def test_gate_switches_from_dense_blocks_to_lists_as_it_tightens(tightness, form):
    net = gated(0.2).train()
    net.pair_inputs.gate.tightness = tightness
    seen = []
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    net(jets())
    net.eval()(jets())
    assert [type(graph) for graph in seen] == [form, SparseGraph]


def test_all_layers_use_the_edges_of_the_gate():
    _, weights = gated(0.4)(jets(), return_attention_weights=True)
    assert torch.equal(weights[0][2], weights[1][2])
    kept = cost(gated(0.4), jets()).layers[0].edges.tolist()
    # Both edges of 0.4 of the pairs, rounded up, and each particle with itself.
    assert kept == [2 * 9 + 7, 1, 2 * 32 + 13, 0, 2 * 1 + 2, 2 * 22 + 11]


def test_rules_prune_further_in_each_block():
    net = gated(0.6)
    for conv in net.convs():
        conv.pruning = EdgeBudget(0.5)
    _, (first, second) = net(jets(), return_attention_weights=True)
    assert set(second[2].tolist()) < set(first[2].tolist())


def test_memory_of_the_backward_pass_falls_with_the_pairs():
    def kept(fraction):
        saved = []

        def pack(tensor):
            saved.append(tensor.untyped_storage())
            return tensor

        net = GatedIAFormer(**SIZES, **PAIRS, gate_fraction=fraction)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(random_jets([40] * 8)).sum()
        return sum({storage.data_ptr(): storage.nbytes() for storage in saved}.values())

    few, some, most = kept(0.1), kept(0.2), kept(0.45)
    assert few < 0.85 * some < 0.6 * most
    # The part of particles and gate is constant; the rest is proportional to the number of pairs.
    assert (some - few) / 0.1 == pytest.approx((most - some) / 0.25, rel=0.05)


def test_multiply_adds_by_hand():
    net = GatedIAFormer(**SIZES, **PAIRS, gate_hidden=5, gate_fraction=0.4)
    particles = 18 * (7 * 17 + 17 * 15 + 2 * (2 * 15 * 15 + 2 * 15 * 60)) + 2 * 15 * 3
    pairs, kept, edges = 28 + 66, (9 + 7) + (22 + 11), (18 + 7) + (44 + 11)
    encoded = kept * (6 * 11 + 11 * 7 + 2 * 7 * 10)
    assert multiply_adds(net, random_jets([7, 11])) == particles + pairs * (6 * 5 + 5) + encoded + 2 * edges * 15


def test_encoder_sees_only_kept_pairs():
    net, seen = gated(0.3), []
    net.pair_encoder.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].size(0)))
    net(jets([10]))
    assert seen == [10 + 14]


@pytest.mark.parametrize("fraction", [0.0, 1.1])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction"):
        gated(fraction)
