import pytest
import torch

from iagraph.nn import pair_biases
from iagraph.nn.pair_biases import PairBiases


def encoder():
    """A pair encoder with random weights and statistics."""
    torch.manual_seed(1)
    net = PairBiases([5, 11, 7, 3]).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for norm in [net[0], *list(net)[2::3]]:
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 2)
    return net


@pytest.mark.parametrize("pairs", [0, 1, 12, 13, 14, 41])
def test_evaluation_mode_equals_the_modules_with_gradients(pairs, monkeypatch):
    monkeypatch.setattr(pair_biases, "PAIRS_AT_ONCE", 13)
    net = encoder().eval()
    x, weight = torch.randn(pairs, 5).double().requires_grad_(), torch.randn(3, pairs).double()
    expected = x
    for module in net:
        expected = module(expected)
    out = net(x)
    torch.testing.assert_close(out, expected.t(), rtol=0, atol=1e-12)
    inputs = [x, *net.parameters()]
    gradients = torch.autograd.grad((expected.t() * weight).sum(), inputs)
    for got, wanted in zip(torch.autograd.grad((out * weight).sum(), inputs), gradients, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)
    given = x.detach().clone()
    with torch.inference_mode():
        torch.testing.assert_close(net(given), out, rtol=0, atol=1e-12)
    assert torch.equal(given, x)  # what is overwritten is its own


def test_training_mode_uses_statistics_of_all_pairs(monkeypatch):
    monkeypatch.setattr(pair_biases, "PAIRS_AT_ONCE", 13)
    net, plain = encoder(), torch.nn.Sequential(*encoder())
    x = torch.randn(41, 5).double()
    torch.testing.assert_close(net(x), plain(x).t(), rtol=0, atol=0)
    for (name, statistic), other in zip(net.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(statistic, other, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(("at", "module"), [(3, torch.nn.Tanh()), (1, torch.nn.Linear(5, 11, bias=False).double())])
def test_other_modules_run_themselves(at, module):
    net = encoder().eval()
    x = torch.randn(41, 5).double()
    before = net(x)
    net[at] = module
    torch.testing.assert_close(net(x), torch.nn.Sequential(*net)(x).t(), rtol=0, atol=0)
    assert (net(x) - before).abs().max() > 1e-3


def test_gradients_reach_the_norms_in_rows():
    net, gradients = encoder().train(), []

    def watch(_module, _inputs, output):
        output.register_hook(gradients.append)

    for norm in [net[0], *list(net)[2::3]]:
        norm.register_forward_hook(watch)
    net(torch.randn(13, 5).double()).backward(torch.randn(3, 13).double())
    assert [gradient.shape for gradient in gradients] == [(13, 3), (13, 7), (13, 11), (13, 5)]
    assert all(gradient.is_contiguous() for gradient in gradients)  # in columns, a GPU takes many times as long
