import pytest
import torch

from iagraph.graph import SparseGraph, unordered_pairs
from iagraph.nn import EdgeBudget, PairGate
from iagraph.nn.pair_gate import FixedGate

PTR = torch.tensor([0, 5, 6, 13])
BATCH = torch.tensor([0] * 5 + [1] + [2] * 7)
FIRST, SECOND = unordered_pairs(PTR)
GRAPH = SparseGraph.from_pairs(FIRST, SECOND, BATCH, 3)


def survivors_of(module, features):
    """The kept pairs and their biases; features and graph are reduced to them."""
    graph, kept, bias = module(features, GRAPH)
    place = {pair: k for k, pair in enumerate(zip(FIRST.tolist(), SECOND.tolist(), strict=True))}
    survivors = torch.tensor([place[pair] for pair in zip(graph.first.tolist(), graph.second.tolist(), strict=True)])
    assert torch.equal(kept, features[survivors])
    assert torch.equal(graph.pair_of_edge.unique(), torch.arange(survivors.numel()))
    return survivors, bias


def gate(fraction):
    torch.manual_seed(0)
    return PairGate(3, 11, EdgeBudget(fraction=fraction)).double()


def test_best_pairs_of_each_jet_and_self_pairs_are_kept():
    module, features = gate(0.3), torch.randn(FIRST.numel(), 3).double()
    survivors, bias = survivors_of(module, features)
    g = module.lin(torch.nn.functional.gelu(module.hidden(features))).squeeze(1)
    expected = set((FIRST == SECOND).nonzero().squeeze(1).tolist())
    for jet, number in ((0, 3), (2, 7)):  # 0.3 of 10 pairs, of 21: 6.3
        between = [p for p in range(FIRST.numel()) if FIRST[p] != SECOND[p] and BATCH[FIRST[p]] == jet]
        expected |= set(sorted(between, key=lambda p: -g[p])[:number])
    assert survivors.tolist() == sorted(expected)
    torch.testing.assert_close(bias, torch.log(1 / (1 + torch.exp(-g[survivors]))))


def test_fraction_of_one_keeps_all_pairs():
    survivors, _ = survivors_of(gate(1.0), torch.randn(FIRST.numel(), 3).double())
    assert survivors.tolist() == list(range(FIRST.numel()))


def test_large_gates_are_distinguished():
    module = gate(0.1)
    torch.nn.init.constant_(module.lin.bias, 60.0)  # a sigmoid of it is 1
    features = torch.randn(FIRST.numel(), 3).double()
    here, _ = survivors_of(module, features)
    there, _ = survivors_of(gate(0.1), features)
    assert torch.equal(here, there)


def test_tightness_acts_only_in_training():
    module, features = gate(0.2), torch.randn(FIRST.numel(), 3).double()
    module.tightness = 0.5
    # 0.6 or 0.2 of 10 and of 21 pairs, and 13 particles
    assert survivors_of(module.train(), features)[0].numel() == 6 + 13 + 13
    assert survivors_of(module.eval(), features)[0].numel() == 2 + 5 + 13


def test_gate_learns_from_kept_pairs():
    module, features = gate(0.3), torch.randn(FIRST.numel(), 3).double()
    _, bias = survivors_of(module, features)
    (bias * torch.linspace(1, 2, len(bias)).double()).sum().backward()
    assert all(parameter.grad.abs().max() > 1e-6 for parameter in module.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(dtype):
    module, features = gate(0.3).to(dtype), torch.randn(FIRST.numel(), 3).to(dtype)
    survivors, bias = survivors_of(module, features)
    assert survivors.numel() == 3 + 7 + 13
    assert bias.dtype == dtype


@pytest.mark.parametrize("fraction", [0.0, 1.5])
def test_fractions_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction"):
        gate(fraction)


@pytest.mark.parametrize("hidden", [1, 2, 11])
def test_gate_starts_as_a_linear_function_and_learns_from_all(hidden):
    torch.manual_seed(0)
    module, features = PairGate(3, hidden, EdgeBudget(fraction=0.3)).double(), torch.randn(FIRST.numel(), 3).double()
    module.start_with(torch.tensor([0.0, 1.0, -3.0]))
    expected, rate = features[:, 1] - 3 * features[:, 2], module.rate(features)
    torch.testing.assert_close(rate, expected if hidden > 1 else torch.nn.functional.gelu(expected))
    module(features, GRAPH)[2].sum().backward()
    assert module.lin.weight.grad.abs().min() > 0
    module.zero_grad()
    with torch.no_grad():
        module.lin.weight -= 0.1
    module(features, GRAPH)[2].sum().backward()
    assert module.hidden.weight.grad.abs().min() > 0


def test_only_kept_pairs_need_activations():
    """What is stored for the gradient grows with the kept pairs, not with all."""
    module, features = gate(0.1), torch.randn(FIRST.numel(), 3).double()
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: stored.append(tensor.shape) or tensor, lambda x: x):
        module(features, GRAPH)
    assert stored
    assert not any(FIRST.numel() in shape for shape in stored)


def test_fixed_gates_keep_the_largest_values():
    features = torch.randn(FIRST.numel(), 3).double()
    survivors, bias = survivors_of(FixedGate(1, EdgeBudget(fraction=0.3)), features)
    expected = set((FIRST == SECOND).nonzero().squeeze(1).tolist())
    for jet, number in ((0, 3), (2, 7)):
        between = [p for p in range(FIRST.numel()) if FIRST[p] != SECOND[p] and BATCH[FIRST[p]] == jet]
        expected |= set(sorted(between, key=lambda p: -features[p, 1])[:number])
    assert survivors.tolist() == sorted(expected)
    assert torch.equal(bias, torch.zeros(len(survivors)).double())


def test_random_pairs_are_fixed_in_evaluation_and_new_in_each_training_step():
    features, module = torch.randn(FIRST.numel(), 3).double(), FixedGate(None, EdgeBudget(fraction=0.3))
    torch.manual_seed(0)
    one, two = (survivors_of(module.train(), features)[0].tolist() for _ in range(2))
    assert one != two
    assert len(one) == len(two) == 3 + 7 + 13
    one, two = (survivors_of(module.eval(), features)[0].tolist() for _ in range(2))
    assert one == two
