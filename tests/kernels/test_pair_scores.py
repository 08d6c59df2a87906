import pytest
import torch
from torch.nn.utils import prune

from iagraph.kernels import pair_scores as module
from iagraph.kernels.pair_scores import pair_scores
from iagraph.nn import PairEncoder

COUNTS = [5, 0, 31, 1]


def make(hidden, dtype=torch.float64):
    torch.manual_seed(3)
    encoder = PairEncoder(7, hidden, 5).to(dtype)
    weight = torch.randn(11, 5, dtype=dtype, requires_grad=True)
    return encoder, weight, torch.randn(sum(COUNTS), 7, dtype=dtype, requires_grad=True)


def module_by_module(inputs, encoder, weight):
    return [weight @ encoder(part).t() for part in inputs.split(COUNTS)]


def by_kernel(inputs, encoder, weight):
    """The same for two layers, whose scores are put together."""
    first, second = pair_scores(inputs, encoder, [weight[:4], weight[4:]], COUNTS)
    return [torch.cat(layers) for layers in zip(first, second, strict=True)]


def gradients(pieces, tensors):
    total = sum((piece * torch.linspace(0.3, 1.7, piece.size(1))).sum() for piece in pieces)
    return torch.autograd.grad(total, tensors)


@pytest.mark.parametrize("hidden", [(), (13,), (17, 3)])
@pytest.mark.parametrize("at_once", [1, 4, 1000])
class TestBesideTheModules:
    def test_values_and_gradients_equal_the_modules(self, hidden, at_once, monkeypatch):
        monkeypatch.setattr(module, "PAIRS_IN_CACHE", at_once)
        encoder, weight, inputs = make(hidden)
        tensors = [inputs, weight, *encoder.parameters()]
        got = by_kernel(inputs, encoder, weight)
        expected = module_by_module(inputs, encoder, weight)
        assert [piece.shape for piece in got] == [(11, count) for count in COUNTS]
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)
        for ours, theirs in zip(gradients(got, tensors), gradients(expected, tensors), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

    def test_without_gradients(self, hidden, at_once, monkeypatch):
        monkeypatch.setattr(module, "PAIRS_IN_CACHE", at_once)
        encoder, weight, inputs = make(hidden)
        expected = module_by_module(inputs, encoder, weight)
        with torch.inference_mode():
            got = by_kernel(inputs, encoder, weight)
        for ours, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-13)

    def test_some_tensors_without_gradient(self, hidden, at_once, monkeypatch):
        monkeypatch.setattr(module, "PAIRS_IN_CACHE", at_once)
        encoder, weight, inputs = make(hidden)
        encoder.requires_grad_(False)
        got = gradients(by_kernel(inputs.detach(), encoder, weight), [weight])
        expected = gradients(module_by_module(inputs.detach(), encoder, weight), [weight])
        torch.testing.assert_close(got, expected)


def test_autocast_gives_gradients_in_full_precision():
    encoder, weight, inputs = make((13,), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        got = by_kernel(inputs, encoder, weight)
        expected = module_by_module(inputs, encoder, weight)
    assert {piece.dtype for piece in got} == {torch.bfloat16}
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    tensors = [weight, *encoder.parameters()]
    exact_pieces = module_by_module(inputs, encoder, weight)
    for ours, exact in zip(gradients(got, tensors), gradients(exact_pieces, tensors), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() < 0.02 * exact.norm()


def test_second_derivatives_equal_the_modules():
    encoder, weight, inputs = make((13,))
    tensors, second = [inputs, weight, *encoder.parameters()], []
    for run in by_kernel, module_by_module:
        total = sum(piece.square().sum() for piece in run(inputs, encoder, weight))
        first = torch.autograd.grad(total, tensors, create_graph=True)
        second.append(torch.autograd.grad(sum(gradient.square().sum() for gradient in first), tensors))
    for ours, theirs in zip(*second, strict=True):
        assert theirs.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_little_is_stored_for_the_backward_pass():
    encoder, weight, inputs = make((200, 3), torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        by_kernel(inputs.detach(), encoder, weight)
    given = inputs.numel() + weight.numel() + sum(parameter.numel() for parameter in encoder.parameters())
    assert sum(tensor.numel() for tensor in kept) == given + sum(COUNTS) * (3 + 5)  # nothing of the 200 channels


def test_nothing_is_stored_without_gradients(monkeypatch):
    encoder, weight, inputs = make((17, 3))
    made = []
    addmm = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args, **kwargs: made.append("out" in kwargs) or addmm(*args, **kwargs))
    with torch.no_grad():
        by_kernel(inputs, encoder, weight)
    assert made
    assert all(made)  # into the buffers


def test_float64_is_unchanged_under_autocast():
    encoder, weight, inputs = make((13,))
    with torch.autocast("cpu", torch.bfloat16):
        got = by_kernel(inputs, encoder, weight)
    torch.testing.assert_close(list(got), module_by_module(inputs, encoder, weight), rtol=0, atol=1e-13)


def test_modules_with_hooks_are_called():
    encoder, weight, inputs = make((13,))
    expected = module_by_module(inputs, encoder, weight)
    prune.l1_unstructured(encoder[0], "weight", amount=0.0)
    seen = []
    encoder[-1].register_forward_hook(lambda module, given, result: seen.append(result.shape))
    for _ in range(2):
        got = by_kernel(inputs, encoder, weight)
        torch.testing.assert_close(list(got), expected, rtol=0, atol=1e-13)
        sum(piece.sum() for piece in got).backward()
    assert seen == [(sum(COUNTS), 5)] * 2
