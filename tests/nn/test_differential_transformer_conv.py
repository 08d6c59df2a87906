import math

import pytest
import torch

from iagraph.graph import SparseGraph, fully_connected
from iagraph.nn import (
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    InteractionAttentionConv,
    SoftmaxDifference,
    TopK,
)

EDGES = torch.tensor([[0, 1, 2, 4, 3], [1, 1, 1, 0, 0]])  # no edge arrives at 2, 3, 4


def layer(in_channels=5, out_channels=12, heads=3, edge_dim=7, **settings):
    torch.manual_seed(1)
    conv = DifferentialTransformerConv(in_channels, out_channels, heads, edge_dim, **settings).double()
    torch.nn.init.uniform_(conv.norm.weight, 0.5, 2)  # or a forgotten scale would not show
    return conv


def by_hand(conv, x, edge_index, edge_attr):
    """The equation of the docstring, one edge and one head at a time."""
    heads, d = conv.heads, conv.out_channels // (2 * conv.heads)
    query, key = (lin(x).view(-1, 2, heads, d) for lin in (conv.lin_query, conv.lin_key))  # first maps, then second
    value = conv.lin_value(x).view(-1, heads, 2 * d)
    bias = (edge_attr @ conv.lin_score.weight.t()).view(-1, 2, heads)
    beta = conv.beta.expand(heads)
    alpha, sums = torch.zeros(edge_index.size(1), heads).double(), torch.zeros(len(x), heads, 2 * d).double()
    for target in set(edge_index[1].tolist()):
        edges = [e for e, t in enumerate(edge_index[1].tolist()) if t == target]
        for head in range(heads):
            maps = []
            for m in range(2):
                terms = [
                    (sum(query[target, m, head] * key[edge_index[0, e], m, head]) / math.sqrt(d) + bias[e, m, head])
                    for e in edges
                ]
                maps.append([term.exp() / sum(other.exp() for other in terms) for term in terms])
            for e, one, two in zip(edges, *maps, strict=True):
                alpha[e, head] = one - beta[head] * two
                sums[target, head] += alpha[e, head] * value[edge_index[0, e], head]
    rms = (sums.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    normed = (1 - conv.initial_beta) * sums / rms * conv.norm.weight
    return normed.flatten(1) @ conv.lin_out.weight.t(), alpha


@pytest.mark.parametrize("beta_per_head", [False, True])
def test_equation(beta_per_head):
    conv = layer(beta=0.3, beta_per_head=beta_per_head)
    conv.theta.data += torch.arange(conv.theta.numel())
    x, edge_attr = torch.randn(5, 5).double(), torch.randn(5, 7).double()
    out, (_, alpha) = conv(x, EDGES, edge_attr, return_attention_weights=True)
    expected_out, expected_alpha = by_hand(conv, x, EDGES, edge_attr)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(alpha, expected_alpha)
    assert not out[2:].any()


def test_published_layer_on_a_sequence():
    """Multi-head differential attention of arXiv 2410.05258 as matrices, with lambda for beta."""
    conv = layer(edge_dim=None, heads=2, out_channels=12, in_channels=12, beta=0.8 - 0.6 * math.exp(-0.3 * 2))
    x, ptr = torch.randn(11, 12).double(), torch.tensor([0, 11])
    lambda_, lambda_init = conv.beta, 0.8 - 0.6 * math.exp(-0.3 * 2)  # of the third layer
    heads = []
    for head in range(2):
        maps = []
        for m in range(2):
            rows = slice(3 * (2 * m + head), 3 * (2 * m + head) + 3)
            q, k = x @ conv.lin_query.weight[rows].t(), x @ conv.lin_key.weight[rows].t()
            maps.append(torch.softmax(q @ k.t() / math.sqrt(3), dim=-1))
        attended = (maps[0] - lambda_ * maps[1]) @ (x @ conv.lin_value.weight[6 * head : 6 * head + 6].t())
        heads.append((1 - lambda_init) * torch.rms_norm(attended, (6,), conv.norm.weight, 1e-5))
    expected = torch.cat(heads, dim=1) @ conv.lin_out.weight.t()
    torch.testing.assert_close(conv(x, fully_connected(ptr)), expected)
    assert conv.beta.item() == pytest.approx(lambda_init, rel=1e-6)


def test_without_products_weights_equal_those_from_edge_features():
    conv, other = layer(), DifferentialAttentionConv(5, 12, 3, 7).double()
    torch.nn.init.zeros_(conv.lin_query.weight)
    other.lin_score.load_state_dict(conv.lin_score.state_dict())
    x, edge_attr = torch.randn(5, 5).double(), torch.randn(5, 7).double()
    _, (_, alpha) = conv(x, EDGES, edge_attr, return_attention_weights=True)
    _, (_, expected) = other(x, EDGES, edge_attr, return_attention_weights=True)
    torch.testing.assert_close(alpha, expected)
    assert type(conv).weigh is type(other).weigh is SoftmaxDifference.weigh  # one arithmetic


def test_equal_maps_give_attention_times_one_minus_beta():
    conv, plain = layer(edge_dim=None, beta=0.3), InteractionAttentionConv(5, 6, 3).double()
    for name in ("lin_query", "lin_key"):
        weight = getattr(plain, name).weight.data
        getattr(conv, name).weight.data = torch.cat([weight, weight])
    x = torch.randn(5, 5).double()
    _, (_, alpha) = conv(x, EDGES, return_attention_weights=True)
    _, (_, expected) = plain(x, EDGES, return_attention_weights=True)
    torch.testing.assert_close(alpha, 0.7 * expected, rtol=0, atol=1e-7)


def test_weights_can_be_negative():
    conv = layer(edge_dim=None, beta=0.9)
    _, (_, alpha) = conv(3 * torch.randn(5, 5).double(), EDGES, return_attention_weights=True)
    assert alpha.min() < -0.01


@pytest.mark.parametrize("edge_dim", [None, 7])
def test_gradients(edge_dim):
    conv, edge_attr = layer(edge_dim=edge_dim), torch.randn(5, 7).double()
    given = () if edge_dim is None else (edge_attr,)
    x = torch.randn(5, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, EDGES, *given), x)
    conv(x, EDGES, *given).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-8 for parameter in conv.parameters())


@pytest.mark.parametrize("per_head", [False, True])
def test_pruning_uses_the_difference(per_head):
    conv, edges = layer(edge_dim=None, pruning=TopK(k=1, per_head=per_head)), fully_connected(torch.tensor([0, 7]))
    x = torch.randn(7, 5).double()
    out, (left, alpha, ids) = conv(x, edges, return_attention_weights=True)
    conv.pruning = None
    _, (_, full) = conv(x, edges, return_attention_weights=True)
    between = (edges[0] != edges[1]).unsqueeze(1)
    strength = full.abs() * between if per_head else full.abs().mean(1, keepdim=True) * between
    best = strength.view(7, 7, -1).argmax(1)  # of each target, for each column
    wanted = {(t, int(s)) for t in range(7) for s in best[t]} | {(n, n) for n in range(7)}
    assert {(t, s) for s, t in left.t().tolist()} == wanted
    if not per_head:
        torch.testing.assert_close(alpha, full[ids])
    conv.pruning = TopK(k=1, per_head=per_head)
    attended = conv.attend(x, SparseGraph.scored_per_pair(edges, 7))
    torch.testing.assert_close(attended.x, out)
    torch.testing.assert_close(attended.alpha.t(), alpha)


def test_dropout_acts_on_both_maps_only_in_training():
    torch.manual_seed(4)
    conv = DifferentialTransformerConv(5, 6, 3, dropout=0.25)
    x, edges = torch.randn(60, 5), fully_connected(torch.tensor([0, 60]))
    _, (_, alpha) = conv(x, edges, return_attention_weights=True)
    _, (_, kept) = conv.eval()(x, edges, return_attention_weights=True)
    assert (alpha == 0).float().mean() == pytest.approx(0.25**2, abs=0.01)
    both = torch.isclose(alpha, kept / 0.75, rtol=1e-4)
    assert both.float().mean() == pytest.approx(0.75**2, abs=0.02)


def test_reset_restores_beta_and_scales():
    conv = layer(beta=0.4)
    conv.theta.data += 3
    before = conv.lin_query.weight.clone()
    conv.reset_parameters()
    assert conv.beta.item() == pytest.approx(0.4, rel=1e-6)
    assert torch.equal(conv.norm.weight, torch.ones(4).double())
    assert not torch.equal(conv.lin_query.weight, before)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"out_channels \(9\) must be a multiple of twice heads \(3\)"):
        layer(out_channels=9)
    with pytest.raises(ValueError, match=r"multiple of heads \(0\)"):
        layer(heads=0)
    with pytest.raises(ValueError, match="beta must lie between 0 and 1, not 0"):
        layer(beta=0)
    for edge_attr in (torch.randn(5, 3), torch.randn(5)):
        with pytest.raises(ValueError, match=r"without edge_dim it holds the biases themselves, \[edges, 6\]"):
            layer(edge_dim=None)(torch.randn(5, 5).double(), EDGES, edge_attr.double())
