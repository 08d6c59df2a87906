import pytest
import torch

from iagraph.nn import BatchNorm, PairEncoder, ParticleEncoder, Standardize


def test_standardize_by_hand():
    scale = Standardize([(1.0, 2.0), (-3.0, 0.5)])
    got = scale(torch.tensor([[5.0, -3.25], [100.0, -100.0]]))
    assert got.tolist() == [[2.0, -0.5], [5.0, -5.0]]
    assert not list(scale.parameters())
    assert set(scale.state_dict()) == {"center", "width"}
    assert str(scale) == "Standardize(2)"


@pytest.mark.parametrize(("encoder", "normalised"), [(ParticleEncoder, True), (PairEncoder, False)])
def test_encoders_by_hand(encoder, normalised):
    torch.manual_seed(1)
    net = encoder(3, (7, 5), 11).double()
    x = torch.randn(13, 3).double()
    expected = x
    for linear in (net[0], net[2], net[4]):
        expected = expected @ linear.weight.t() + linear.bias
        expected = expected * 0.5 * (1 + torch.erf(expected / 2**0.5))
    if normalised:
        expected = expected / expected.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(net(x), expected)
    assert len(net) == 6 + normalised


def test_encoder_without_hidden_layers():
    assert PairEncoder(3, (), 5)(torch.zeros(2, 3)).shape == (2, 5)


def test_batch_norm_of_few_rows_uses_running_statistics():
    norm = BatchNorm(2)
    norm.running_mean.copy_(torch.tensor([1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 9.0]))
    torch.testing.assert_close(norm(torch.tensor([[5.0, 5.0]])), torch.tensor([[2.0, 1.0]]), rtol=0, atol=1e-5)
    assert norm(torch.zeros(0, 2)).shape == (0, 2)
    assert norm.running_mean.tolist() == [1, 2]
    assert norm(torch.tensor([[5.0, 5.0], [7.0, 9.0]])).sum().abs() < 1e-5
    assert norm.running_mean.tolist() != [1, 2]


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_batch_norm_of_few_real_rows_equals_that_without_padding(rows):
    values, real = torch.randn(7, 3), torch.tensor([1, 0, 1, 1, 0, 1, 1]).bool()
    real &= real.cumsum(0) <= rows
    padded, ragged = BatchNorm(3), BatchNorm(3)
    for norm in (padded, ragged):
        norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.running_var.copy_(torch.tensor([4.0, 9.0, 1.0]))
    torch.testing.assert_close(padded(values, real)[real], ragged(values[real]))
    torch.testing.assert_close(padded.state_dict(), ragged.state_dict())


def test_constants_are_exact_in_float64():
    scaling, x = [(1.7, 1 / 0.7), (-4.7, 0.1)], torch.tensor([[2.3, -4.4]], dtype=torch.float64)
    expected = torch.tensor([[(2.3 - 1.7) * 0.7, (-4.4 + 4.7) / 0.1]], dtype=torch.float64)
    torch.testing.assert_close(Standardize(scaling).double()(x), expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(Standardize(scaling)(x.float()), expected.float(), rtol=0, atol=1e-5)


def test_norm_has_the_precision_of_its_weights_under_autocast():
    torch.manual_seed(1)
    encoder, x = ParticleEncoder(3, (7,), 11), torch.randn(13, 3)
    *mlp, norm = encoder
    with torch.autocast("cpu", torch.bfloat16):
        before = torch.nn.Sequential(*mlp)(x)
        got = norm(before)
    assert before.dtype == torch.bfloat16
    assert got.dtype == torch.float32
    expected = before.double() / before.double().square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
