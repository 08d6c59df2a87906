import math

import numpy as np
import pytest
import torch

from iagraph.estimates import Truth, jackknife, mean, mean_over_runs, ratio, recovery
from iagraph.metrics import Estimate, auc_difference, macro_auc


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


def test_jets_without_denominator_are_ignored():
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


LABELS = np.array([0, 1, 1, 0, 1])
LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [4.0, 1.0], [0.0, 2.0]])


def test_logit_difference_by_hand():
    truth = Truth(LABELS, 1)
    assert truth.logit_difference(LOGITS).tolist() == pytest.approx([1, 3, -1, 3, 2])
    average = truth.mean(truth.logit_difference(LOGITS))
    # Classes: mean 2 with variance 2 of two, mean 4/3 with variance 13/3 of three.
    assert average.value == pytest.approx((2 + 4 / 3) / 2)
    assert average.error == pytest.approx(math.sqrt(2 / 2 + 13 / 9) / 2)
    three = Truth(np.array([0, 2]), None)
    logits = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 5.0]])
    expected = [1 - math.log(math.e**2 + math.e**3), 5 - math.log(math.e + math.e**2)]
    assert three.logit_difference(logits).tolist() == pytest.approx(expected)


def test_changes_are_paired():
    truth, after = Truth(LABELS, 1), LOGITS + np.array([[0.5, 0.0]])
    # All jets move equally towards the first class, which cancels in the mean over classes.
    assert truth.mean_change(after, LOGITS) == pytest.approx((0, 0), abs=1e-12)
    assert truth.mean_change(LOGITS * 2, LOGITS) == pytest.approx(truth.mean(truth.logit_difference(LOGITS)))
    assert truth.auc_change(-LOGITS, LOGITS) == auc_difference(LABELS, -LOGITS, LOGITS, 1)


def test_signal_of_label_zero_and_more_classes():
    assert Truth(LABELS, 0).auc(LOGITS).value == pytest.approx(Truth(LABELS, 1).auc(LOGITS).value)
    labels, logits = np.array([0, 1, 2, 0, 1, 2]), np.random.default_rng(1).normal(size=(6, 3))
    assert Truth(labels, None).auc(logits) == macro_auc(labels, logits)


def test_transfer():
    truth, random = Truth(np.arange(40) % 2, 1), np.random.default_rng(2)
    clean, donor = random.normal(size=(40, 2)), random.normal(size=(40, 2))
    assert truth.transfer(clean, clean, donor) == pytest.approx((0, 0), abs=1e-12)
    assert truth.transfer(donor, clean, donor) == pytest.approx((1, 0), abs=1e-12)
    assert truth.transfer(0.75 * clean + 0.25 * donor, clean, donor) == pytest.approx((0.25, 0), abs=1e-12)
    assert math.isnan(truth.transfer(donor, clean, clean).value)
    assert truth.transfer(random.normal(size=(40, 2)), clean, donor).error > 0


def test_recovery():
    above, share = recovery(Estimate(0.9, 0.01), Estimate(-0.1, 0.02))
    assert above == pytest.approx((0.75, 0.05))
    assert share == pytest.approx((0.8 / 0.9, 0.02 / 0.9))
    nothing, share = recovery(Estimate(0.5, 0.01), Estimate(0.0, 0.02))
    assert math.isnan(nothing.value)
    assert share.value == 1


def test_half_has_both_classes():
    truth = Truth(np.array([0, 1, 0, 1, 0, 1, 1]), 1)
    assert truth.half().tolist() == [True, True, False, False, True, True, False]
    assert truth[truth.half()].labels.tolist() == [0, 1, 0, 1]


def test_means():
    assert mean(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx((3.0, math.sqrt(7 / 3)))
    assert math.isnan(mean(torch.tensor([2.0])).error)
    assert math.isnan(ratio(torch.zeros(3), torch.zeros(3)).value)
    assert math.isnan(mean(torch.zeros(0)).value)
    assert mean(np.array([1.0, 2.0, 6.0])) == mean(torch.tensor([1.0, 2.0, 6.0]))


def test_errors_of_jets_and_runs_add_in_quadrature():
    assert mean_over_runs([Estimate(1.0, 0.3), Estimate(3.0, 0.5)]) == pytest.approx((2, (0.4**2 + 1) ** 0.5))
    assert mean_over_runs([Estimate(0.01, 0.002)]) == (0.01, 0.002)  # the error of the test jets alone
