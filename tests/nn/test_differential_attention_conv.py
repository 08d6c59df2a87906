import pytest
import torch

from iagraph.nn import DifferentialAttentionConv

EDGES = torch.tensor([[0, 1, 2, 4, 3, 3, 0], [1, 1, 1, 0, 0, 3, 3]])  # no edge arrives at node 2 and 4


def layer(in_channels=5, out_channels=6, heads=3, edge_dim=7, **settings):
    torch.manual_seed(1)
    return DifferentialAttentionConv(in_channels, out_channels, heads, edge_dim, **settings).double()


def by_hand(conv, x, edge_index, edge_attr, num_targets):
    """The equation of the docstring, one edge and one head at a time."""
    width = conv.out_channels // conv.heads
    out = torch.zeros(num_targets, conv.out_channels, dtype=x.dtype)
    alpha = torch.zeros(edge_index.size(1), conv.heads, dtype=x.dtype)
    scores = edge_attr @ conv.lin_score.weight.t()
    beta = torch.sigmoid(conv.theta).expand(conv.heads)
    for target in range(num_targets):
        edges = [e for e, t in enumerate(edge_index[1].tolist()) if t == target]
        for head in range(conv.heads):
            first = [scores[e, head].exp() for e in edges]
            second = [scores[e, conv.heads + head].exp() for e in edges]
            for k, e in enumerate(edges):
                alpha[e, head] = first[k] / sum(first) - beta[head] * second[k] / sum(second)
                value = conv.lin_value.weight[head * width : (head + 1) * width] @ x[edge_index[0, e]]
                out[target, head * width : (head + 1) * width] += alpha[e, head] * value
    return out @ conv.lin_out.weight.t(), alpha


SORTED = EDGES[:, EDGES[1].argsort(stable=True)]


@pytest.mark.parametrize("edges", [EDGES, SORTED], ids=["any order", "sorted by target"])
@pytest.mark.parametrize("beta_per_head", [False, True])
def test_equation(backend, beta_per_head, edges):
    conv = layer(beta_per_head=beta_per_head)
    conv.theta.data += torch.arange(conv.theta.numel())
    x, edge_attr = torch.randn(5, 5).double(), torch.randn(7, 7).double()
    out, (edge_index, alpha) = conv(x, edges, edge_attr, return_attention_weights=True)
    expected_out, expected_alpha = by_hand(conv, x, edges, edge_attr, 5)
    torch.testing.assert_close(out, expected_out)
    torch.testing.assert_close(alpha, expected_alpha)
    assert edge_index is edges
    torch.testing.assert_close(conv(x, edges, edge_attr), out)


def test_weights_of_a_node_sum_to_one_minus_beta():
    conv = layer(beta=0.3)
    _, (_, alpha) = conv(torch.randn(5, 5).double(), EDGES, torch.randn(7, 7).double(), return_attention_weights=True)
    sums = torch.zeros(5, 3, dtype=torch.float64).index_add(0, EDGES[1], alpha)
    expected = torch.tensor([0.7, 0.7, 0, 0.7, 0], dtype=torch.float64).unsqueeze(1).expand(5, 3)
    torch.testing.assert_close(sums, expected, rtol=0, atol=1e-7)


def test_weights_can_be_negative():
    conv = layer(beta=0.9)
    _, (_, alpha) = conv(torch.randn(5, 5).double(), EDGES, torch.randn(7, 7).double(), return_attention_weights=True)
    assert alpha.min() < -0.01


def test_nodes_without_edges_get_zero(backend):
    out = layer()(torch.randn(5, 5).double(), SORTED, torch.randn(7, 7).double())
    assert not out[[2, 4]].any()
    assert out[[0, 1, 3]].abs().min() > 0


def test_bipartite_graph():
    conv = layer()
    x_source, x_target = torch.randn(5, 5).double(), torch.randn(11, 2).double()
    edge_index = torch.stack([EDGES[0], EDGES[1] * 3])
    edge_attr = torch.randn(7, 7).double()
    out = conv((x_source, x_target), edge_index, edge_attr)
    assert out.shape == (11, 6)
    torch.testing.assert_close(out, by_hand(conv, x_source, edge_index, edge_attr, 11)[0])
    torch.testing.assert_close(conv((x_source, None), EDGES, edge_attr), conv(x_source, EDGES, edge_attr))


def test_edges_of_the_caller_are_unchanged():
    before = EDGES.clone()
    layer()(torch.randn(5, 5).double(), EDGES, torch.randn(7, 7).double())
    assert torch.equal(EDGES, before)


def test_gradients(backend):
    conv = layer()
    x, edge_attr = torch.randn(5, 5).double().requires_grad_(), torch.randn(7, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, e: conv(x, SORTED, e), (x, edge_attr))
    conv(x, SORTED, edge_attr).square().sum().backward()
    assert all(p.grad.abs().max() > 1e-8 for p in conv.parameters())


def test_reset_parameters_restores_beta_and_draws_anew():
    conv = layer(beta=0.4)
    conv.theta.data += 3
    before = conv.lin_value.weight.clone()
    conv.reset_parameters()
    assert conv.beta.item() == pytest.approx(0.4, rel=1e-6)
    assert not torch.equal(conv.lin_value.weight, before)


def test_representation():
    assert str(layer()) == "DifferentialAttentionConv(5, 6, heads=3, edge_dim=7)"


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"out_channels \(7\) must be a multiple of heads \(3\)"):
        layer(out_channels=7)
    with pytest.raises(ValueError, match="beta must lie between 0 and 1, not 1"):
        layer(beta=1)
