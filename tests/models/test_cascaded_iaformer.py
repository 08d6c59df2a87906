import pytest
import torch

from iagraph.graph import fully_connected
from iagraph.models import CascadedIAFormer, IAFormer
from iagraph.nn import EdgeBudget, TopK
from iagraph.testing import assert_boost_invariant, random_jets

COUNTS = [7, 1, 13, 0, 2, 11]
SIZES = {"num_classes": 3, "width": 15, "blocks": 3, "heads": 5, "particle_hidden": (17,), "pair_width": 7}


def cascade(seed=1, **settings):
    torch.manual_seed(seed)
    net = CascadedIAFormer(**(SIZES | settings)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def jets(counts=COUNTS):
    return random_jets(counts, dtype=torch.float64)


def test_equals_iaformer_without_drops_and_with_constant_gate():
    """With a constant gate and equal encoders, the model equals one with a shared encoder."""
    torch.manual_seed(1)
    iaformer = IAFormer(**SIZES, pair_hidden=(11,)).double().eval()
    net = cascade(pair_hidden=(11,), gate_fraction=1.0)
    for name in ("particle_encoder", "blocks", "head"):
        getattr(net, name).load_state_dict(getattr(iaformer, name).state_dict())
    for encoder in net.pair_encoders:
        encoder.load_state_dict(iaformer.pair_encoder.state_dict())
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    torch.testing.assert_close(net(jets()), iaformer(jets()), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["edge_budget", "top_k"])
def test_rule_without_drops_changes_nothing(name):
    rule = {"edge_budget": EdgeBudget(fraction=1.0), "top_k": TopK(k=99)}[name]
    here, there = cascade(gate_fraction=0.5), cascade(gate_fraction=0.5, pruning=rule)
    torch.testing.assert_close(there(jets()), here(jets()), rtol=0, atol=1e-12)


def test_gate_biases_attention():
    """In the limit of a low gate for all but self-pairs, particles attend only to themselves."""
    net = cascade(gate_fraction=1.0)
    torch.nn.init.zeros_(net.pair_inputs.gate.hidden.weight)
    torch.nn.init.zeros_(net.pair_inputs.gate.hidden.bias)
    net.pair_inputs.gate.hidden.weight.data[0, -1] = 50.0  # GELU of the flag of such pairs
    torch.nn.init.zeros_(net.pair_inputs.gate.lin.weight)
    net.pair_inputs.gate.lin.weight.data[0, 0] = 2.0
    torch.nn.init.constant_(net.pair_inputs.gate.lin.bias, -50.0)
    alone = torch.arange(sum(COUNTS)).expand(2, -1)
    torch.testing.assert_close(net(jets()), net(jets(), alone), rtol=0, atol=1e-9)


def test_blocks_choose_among_kept_edges_of_the_previous_block():
    net = cascade(gate_fraction=0.6, pruning=EdgeBudget(fraction=0.5))
    _, weights = net(jets(), return_attention_weights=True)
    every = fully_connected(jets().ptr)
    before = set(range(every.size(1)))
    for edge_index, alpha, edge_ids in weights:
        assert torch.equal(every[:, edge_ids], edge_index)
        assert alpha.shape == (len(edge_ids), 5)
        assert set(edge_ids.tolist()) < before
        before = set(edge_ids.tolist())
    assert {(s, s) for s in range(sum(COUNTS))} <= set(map(tuple, weights[-1][0].t().tolist()))


def test_attention_weights_return_given_edges_and_indices():
    net = cascade(gate_fraction=0.6, pruning=EdgeBudget(fraction=0.7))
    every = fully_connected(jets().ptr)
    torch.manual_seed(4)
    given = every[:, torch.randperm(every.size(1))[:150]]
    before = given.clone()
    _, weights = net(jets(), given, return_attention_weights=True)
    assert torch.equal(given, before)
    for edge_index, _, edge_ids in weights:
        assert torch.equal(given[:, edge_ids], edge_index)
    assert 0 < weights[-1][2].numel() < weights[0][2].numel() < 150


def test_weights_without_drops_cover_all_edges():
    iaformer = IAFormer(**SIZES).double().eval()
    logits, weights = iaformer(jets(), return_attention_weights=True)
    torch.testing.assert_close(logits, iaformer(jets()), rtol=0, atol=1e-12)
    assert len(weights) == 3
    for (edge_index, alpha, edge_ids), conv in zip(weights, iaformer.convs(), strict=True):
        assert torch.equal(edge_index, fully_connected(jets().ptr))
        assert torch.equal(edge_ids, torch.arange(edge_index.size(1)))
        rows = torch.zeros(sum(COUNTS), 5).double().index_add(0, edge_index[1], alpha)
        torch.testing.assert_close(rows, (1 - conv.beta).expand_as(rows).detach().double())


def test_boost_invariance_follows_the_features():
    net = cascade(node_features="kin", pruning=TopK(k=3))
    torch.nn.init.zeros_(net.particle_encoder[0].weight)  # energies of particles
    assert_boost_invariant(net, jets(), 1e-10)


def test_dropped_pairs_are_not_encoded():
    net = cascade(gate_fraction=0.3, blocks=1)
    seen = []
    net.pair_encoders[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].size(0)))
    net(jets([10]))
    assert seen == [10 + 14]  # 0.3 of 45 pairs, and each particle with itself
    net.train()
    net(jets([10])).square().sum().backward()
    assert net.pair_inputs.gate.hidden.weight.grad.abs().max() > 1e-8


@pytest.mark.parametrize(
    ("key", "value"), [("gate_fraction", 0.0), ("gate_fraction", 1.1), ("heads", 4), ("blocks", 0)]
)
def test_wrong_sizes_are_refused(key, value):
    with pytest.raises(ValueError, match=r"fraction|heads|blocks"):
        cascade(**{key: value})
