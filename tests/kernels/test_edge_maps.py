"""Maps computed in parts, compared with the modules in sequence."""

from copy import deepcopy

import pytest
import torch

from iagraph.kernels import edge_maps
from iagraph.nn import BatchNorm, EdgeConv

SIZES = (5, 11, 7)
K = 3


@pytest.fixture(params=[1, 2 * K * 11, 5 * K * 11, 2**18], ids=["node by node", "two", "five", "at once"])
def parts(request, monkeypatch):
    """How many values are held at once: 13 nodes in parts of one, two (and one left), five (and three left), or all."""
    monkeypatch.setattr(edge_maps, "VALUES_IN_CACHE", request.param)


class Plain(BatchNorm):
    """A norm of another type, which therefore runs as it is."""


def pair(sizes=SIZES, dtype=torch.float64):
    """An edge convolution with random weights and statistics, and the same from plain modules."""
    torch.manual_seed(2)
    fast = EdgeConv(4, sizes).to(dtype)
    for norm in fast.norms:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.num_batches_tracked.fill_(3)
    plain = deepcopy(fast)
    for norm in plain.norms:
        norm.__class__ = Plain
    return fast, plain


def graph(nodes, dtype=torch.float64, k=K):
    """Vectors of nodes with non-zero means, and neighbours, a fifth of them missing."""
    x = torch.randn(nodes, 4, dtype=dtype) + 0.5
    neighbors = torch.randint(nodes, (nodes, k)) if nodes else torch.zeros(0, k, dtype=torch.long)
    return x.requires_grad_(), neighbors.masked_fill_(torch.rand(nodes, k) < 0.2, -1)


def outcome(conv, x, neighbors):
    """Result, gradients and buffers of the layer."""
    x.grad = None
    conv.zero_grad()
    out = conv.convolve(x, neighbors)
    (out * torch.linspace(-1, 1.3, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in conv.named_parameters()}
    return {
        "out": out,
        "x": x.grad,
        **gradients,
        **{f"kept {name}": value for name, value in conv.state_dict().items()},
    }


def assert_same(one, other, x, neighbors, **tolerances):
    expected = outcome(other, x, neighbors)
    for name, value in outcome(one, x, neighbors).items():
        torch.testing.assert_close(value, expected[name], msg=lambda text, name=name: f"{name}: {text}", **tolerances)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sizes", [SIZES, (7,)])
@pytest.mark.parametrize("nodes", [13, 1, 0])
def test_equal_the_modules(nodes, sizes, training):
    fast, plain = pair(sizes)
    assert_same(fast.train(training), plain.train(training), *graph(nodes), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("training", [True, False])
def test_equal_the_modules_in_float32(training):
    fast, plain = pair(dtype=torch.float32)
    assert_same(fast.train(training), plain.train(training), *graph(13, torch.float32), rtol=1e-4, atol=1e-4)


def test_single_edge_leaves_running_statistics_unchanged():
    fast, plain = pair()
    assert_same(fast.train(), plain.train(), *graph(1, k=1), rtol=1e-10, atol=1e-10)
    assert fast.norms[0].num_batches_tracked == 3


@pytest.mark.usefixtures("parts")
def test_norm_settings_apply_over_many_steps():
    fast, plain = pair()
    for conv in (fast, plain):
        conv.norms[0].momentum, conv.norms[1].momentum, conv.norms[2].eps = None, 0.3, 0.1
    for nodes in (13, 9, 2):
        assert_same(fast, plain, *graph(nodes), rtol=1e-10, atol=1e-10)
    assert fast.norms[0].num_batches_tracked == 6


def test_single_norms_may_be_frozen():
    fast, plain = pair()
    for conv in (fast, plain):
        conv.norms[1].eval()
    assert_same(fast, plain, *graph(13), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("training", [True, False])
def test_gradients_equal_finite_differences(training):
    fast, _ = pair()
    x, neighbors = graph(5)

    def convolve(x, *parameters):
        named = dict(zip(dict(fast.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(fast.train(training), named, (x, neighbors))

    fast.forward = fast.convolve
    assert torch.autograd.gradcheck(convolve, (x, *fast.parameters()))


def test_statistics_of_vectors_far_from_zero():
    # Sums of squares would lose the variance, which is a millionth of the mean squared.
    fast, plain = pair(dtype=torch.float32)
    x, neighbors = graph(2000, torch.float32)
    with torch.no_grad():
        x += 1000
        neighbors.clamp_(min=0)
        exact, twin = deepcopy(plain).double(), x.detach().double()
        fast.convolve(x, neighbors)
        exact.convolve(twin, neighbors)
    ratio = fast.norms[0].running_var / exact.norms[0].running_var
    torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-3, check_dtype=False)


def test_bfloat16_autocast_is_as_exact_as_the_modules():
    fast, plain = pair(dtype=torch.float32)
    exact = deepcopy(plain).double()
    x, neighbors = graph(500, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, modules = (outcome(conv, x, neighbors) for conv in (fast, plain))
    exact = outcome(exact, x.detach().double().requires_grad_(), neighbors)
    for name, value in got.items():
        assert value.dtype == modules[name].dtype, name
        away, usual = ((each - exact[name]).double().norm() for each in (value, modules[name]))
        assert away <= 2 * usual + 1e-5 * exact[name].double().norm(), name


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad])
def test_bfloat16_autocast_is_as_exact_as_the_modules_with_fixed_statistics(mode):
    fast, plain = (conv.eval() for conv in pair(dtype=torch.float32))
    x, neighbors = graph(500, torch.float32)
    exact = deepcopy(plain).double().convolve(x.double(), neighbors)
    with torch.autocast("cpu", dtype=torch.bfloat16), mode():
        got, modules = (conv.convolve(x, neighbors) for conv in (fast, plain))
    assert got.dtype == modules.dtype
    assert (got - exact).norm() <= 2 * (modules - exact).norm()
