import pytest
import torch

from iagraph.nn import EdgeConv

NEIGHBORS = torch.tensor([[1, 2], [2, 0], [0, -1], [-1, -1]])


def layer(in_channels=3, channels=(5, 7, 4)):
    """A layer with random weights and statistics, so that no symmetry hides a mistake."""
    torch.manual_seed(1)
    conv = EdgeConv(in_channels, channels).double()
    for module in conv.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return conv.eval()


def by_hand(conv, x_i, x_j):
    """The message of an edge: the maps applied to (x_i, x_j - x_i)."""
    h = torch.cat([x_i, x_j - x_i])
    for linear, norm in zip(conv.linears, conv.norms, strict=True):
        scaled = (linear.weight @ h - norm.running_mean) / torch.sqrt(norm.running_var + 1e-5)
        h = torch.relu(scaled * norm.weight + norm.bias)
    return h


def shortcut(conv, x_i):
    return conv.shortcut(x_i.unsqueeze(0))[0]


def test_equation_with_missing_neighbours_as_zero():
    conv, x = layer(), torch.randn(4, 3).double()
    out = conv.convolve(x, NEIGHBORS)
    for i, row in enumerate(NEIGHBORS.tolist()):
        edges = [by_hand(conv, x[i], x[j] if j >= 0 else torch.zeros(3).double()) for j in row]
        torch.testing.assert_close(out[i], torch.relu(shortcut(conv, x[i]) + sum(edges) / 2))


def test_equation_on_any_graph():
    conv, x = layer(), torch.randn(4, 3).double()
    out = conv(x, torch.tensor([[1, 2, 0, 3], [0, 0, 0, 1]]))
    mean = (by_hand(conv, x[0], x[1]) + by_hand(conv, x[0], x[2]) + by_hand(conv, x[0], x[0])) / 3
    torch.testing.assert_close(out[0], torch.relu(shortcut(conv, x[0]) + mean))
    torch.testing.assert_close(out[1], torch.relu(shortcut(conv, x[1]) + by_hand(conv, x[1], x[3])))
    torch.testing.assert_close(out[2], torch.relu(shortcut(conv, x[2])))


def test_both_forms_agree_without_missing_neighbours():
    conv, x = layer(), torch.randn(3, 3).double()
    neighbors = torch.tensor([[1, 2], [2, 0], [0, 1]])
    edges = torch.stack([neighbors.flatten(), torch.arange(3).repeat_interleave(2)])
    torch.testing.assert_close(conv.convolve(x, neighbors), conv(x, edges))


def test_equal_sizes_have_the_identity_as_shortcut():
    conv, x = layer(4, (5, 4)), torch.randn(4, 4).double()
    nobody = torch.zeros(2, 0, dtype=torch.long)
    torch.testing.assert_close(conv(x, nobody), x.relu())
    assert isinstance(layer(4, (5, 3)).shortcut[0], torch.nn.Linear)


def test_gradients():
    conv, x = layer(), torch.randn(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv.convolve(x, NEIGHBORS), x)
    conv.train().convolve(x, NEIGHBORS).square().sum().backward()
    assert all(parameter.grad.abs().max() > 1e-6 for parameter in conv.parameters())


def test_reset_restores_statistics_and_draws_new_weights():
    conv = layer()
    before = conv.linears[0].weight.clone()
    conv.reset_parameters()
    assert not torch.equal(conv.linears[0].weight, before)
    assert conv.norms[0].running_mean.abs().max() == 0


def test_repr():
    assert repr(EdgeConv(3, (5, 4))) == "EdgeConv(3, (5, 4))"


def test_no_channels_are_refused():
    with pytest.raises(ValueError, match="give channels"):
        EdgeConv(3, ())
