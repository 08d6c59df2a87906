import pytest
import torch

from iagraph.kernels.dropout import STEPS, Dropout, dropout


def used(p):
    """The probability that p is rounded to."""
    return round(p * STEPS) / STEPS


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_drop_rate_and_scale(p):
    torch.manual_seed(1)
    x = torch.rand(1009, 997, dtype=torch.float64) + 0.5
    out = dropout(x, p)
    dropped = out == 0
    q = used(p)
    deviation = (q * (1 - q) / x.numel()) ** 0.5
    assert abs(dropped.double().mean() - q) < 4 * deviation
    torch.testing.assert_close(out[~dropped], x[~dropped] / (1 - q), rtol=1e-15, atol=0)
    ones = dropout(torch.ones_like(x), p)
    assert abs(ones.mean() - 1) < 4 * deviation / (1 - q)


def test_neighbouring_entries_are_independent():
    # Four entries share a random number: any of the 16 patterns of four is as frequent as the probabilities say.
    torch.manual_seed(2)
    p, groups = 0.3, 200_003
    dropped = (dropout(torch.ones(groups, 4), p) == 0).long()
    pattern = (dropped * torch.tensor([1, 2, 4, 8])).sum(1).bincount(minlength=16) / groups
    for bits, frequency in enumerate(pattern.tolist()):
        number = bits.bit_count()
        expected = used(p) ** number * (1 - used(p)) ** (4 - number)
        assert abs(frequency - expected) < 4.5 * (expected / groups) ** 0.5
    for shift in (1, 2, 3, 4, 5, 8):
        flat = dropped.flatten().double() - p
        assert abs((flat[shift:] * flat[:-shift]).mean()) < 4.5 * p * (1 - p) / flat.numel() ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_gradient_is_dropped_and_scaled_alike(dtype):
    x = torch.randn(7, 11, 13).to(dtype).transpose(0, 2).requires_grad_()  # not contiguous
    weight = torch.randn(13, 11, 7).to(dtype)
    torch.manual_seed(3)
    out = dropout(x, 0.4)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    (grad,) = torch.autograd.grad(out, x, weight)
    torch.manual_seed(3)
    assert torch.equal(dropout(weight, 0.4), grad)  # linear, so its gradient is itself
    assert torch.equal(grad == 0, out == 0)
    torch.manual_seed(4)
    assert not torch.equal(dropout(x, 0.4), out)


def test_second_derivatives():
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def same_draw(x):
        torch.manual_seed(5)
        return dropout(x, 0.4).square()

    assert torch.autograd.gradcheck(same_draw, x)
    assert torch.autograd.gradgradcheck(same_draw, x)


def test_identity_in_evaluation_mode_and_at_zero():
    x, module = torch.randn(11), Dropout(0.5)
    assert torch.equal(module.eval()(x), x)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0), x)
    assert (module.train()(torch.ones(1000)) == 0).any()
    assert not module.state_dict()
    assert repr(module) == repr(torch.nn.Dropout(0.5))


@pytest.mark.parametrize("p", [1e-7, 1e-5, 1 - 1e-5, 1 - 1e-7, 1.0])
def test_extreme_probabilities(p):
    torch.manual_seed(6)
    x = torch.ones(10_007, requires_grad=True)
    out = dropout(x, p)
    kept = out != 0
    assert kept.double().mean() == pytest.approx(1 - p, abs=0.002)
    rounded = used(p) if 0 < used(p) < 1 else p
    if kept.any():
        torch.testing.assert_close(out[kept], torch.full_like(out[kept], 1 / (1 - rounded)))
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_impossible_probabilities_are_refused(p):
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
        dropout(torch.ones(3), p)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 5), (), (1,), (2,), (5,)])
def test_few_or_no_entries(shape):
    x = torch.ones(shape, requires_grad=True)
    out = dropout(x, 0.5)
    assert out.shape == x.shape
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


def test_dtype_is_unchanged_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dropout(torch.ones(3)).dtype == torch.float32
        assert dropout(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.bfloat16
