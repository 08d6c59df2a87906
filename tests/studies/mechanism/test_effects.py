import math

import numpy as np
import pytest

from iagraph.metrics import Estimate, auc_difference, macro_auc
from iagraph.studies.mechanism import Truth, recovery

LABELS = np.array([0, 1, 1, 0, 1])
LOGITS = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0], [4.0, 1.0], [0.0, 2.0]])


def test_logit_difference_by_hand():
    truth = Truth(LABELS, 1)
    assert truth.logit_difference(LOGITS).tolist() == pytest.approx([1, 3, -1, 3, 2])
    mean = truth.mean(truth.logit_difference(LOGITS))
    # Classes: mean 2 with variance 2 of two, mean 4/3 with variance 13/3 of three.
    assert mean.value == pytest.approx((2 + 4 / 3) / 2)
    assert mean.error == pytest.approx(math.sqrt(2 / 2 + 13 / 9) / 2)
    three = Truth(np.array([0, 2]), None)
    logits = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 5.0]])
    expected = [1 - math.log(math.e**2 + math.e**3), 5 - math.log(math.e + math.e**2)]
    assert three.logit_difference(logits).tolist() == pytest.approx(expected)


def test_changes_are_paired():
    truth, after = Truth(LABELS, 1), LOGITS + np.array([[0.5, 0.0]])
    # All jets move alike towards the first class, which the classes' mean does not see.
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
