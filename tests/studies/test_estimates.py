import math

import pytest
import torch

from iagraph.studies.estimates import jackknife, ratio


def test_ratio_by_hand():
    # r = 12 / 8 = 1.5, residuals 1 - 1.5, 2 - 3, 9 - 7.5 = -0.5, -1, 1.5, squares 3.5; 3.5 * 3 / 2 / 64
    value, error = ratio(torch.tensor([1, 2, 9]), torch.tensor([1, 2, 5]))
    assert value == 1.5
    assert error == pytest.approx(math.sqrt(3.5 * 1.5) / 8)


def test_ratio_to_ones_is_mean_and_standard_error():
    values = torch.randn(17, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    value, error = ratio(values, torch.ones(17))
    assert value == pytest.approx(values.mean().item())
    assert error == pytest.approx(values.std().item() / 17**0.5)


def test_error_of_ratio_is_its_spread_over_samples():
    random = torch.Generator().manual_seed(2)
    below = torch.randint(1, 30, (2000, 211), generator=random)
    above = below * (0.3 + 0.2 * torch.rand(2000, 211, generator=random)) + torch.rand(2000, 211, generator=random)
    found = [ratio(a, b) for a, b in zip(above, below, strict=True)]
    spread = torch.tensor([each.value for each in found]).std().item()
    assert sum(each.error for each in found) / len(found) == pytest.approx(spread, rel=0.05)


def test_jets_without_denominator_do_not_count():
    assert ratio(torch.tensor([1, 0, 3]), torch.tensor([2, 0, 2])) == ratio(torch.tensor([1, 3]), torch.tensor([2, 2]))


@pytest.mark.parametrize("jets", [0, 1])
def test_too_few_jets(jets):
    value, error = ratio(torch.ones(jets), torch.full((jets,), 4))
    assert math.isnan(value) if jets == 0 else value == 0.25
    assert math.isnan(error)


def test_jackknife_of_a_mean_is_its_standard_error():
    values = torch.randn(13, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sums = torch.stack([values, torch.ones(13)], dim=1)
    value, error = jackknife(sums, lambda s: s[..., 0] / s[..., 1])
    assert value == pytest.approx(values.mean().item())
    assert error == pytest.approx(values.std().item() / 13**0.5)
    assert math.isnan(jackknife(sums[:1], lambda s: s[..., 0]).error)
