import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from iagraph.estimates import Truth
from iagraph.studies.stability.measure import (
    deviations,
    flips,
    mean,
    rank_correlation,
    response,
    spread,
    total_variation,
)

JETS = 1009


def logits_of(probability):
    """Logits of two classes, with an irrelevant offset."""
    probability = np.asarray(probability)
    return np.stack([np.log(1 - probability) + 3, np.log(probability) + 3], axis=-1)


@pytest.fixture
def runs():
    random = np.random.default_rng(1)
    return random.normal(size=(JETS, 3)) + 0.5 * random.normal(size=(4, JETS, 3))


@pytest.fixture
def labels():
    return np.random.default_rng(2).integers(0, 3, JETS)


def test_total_variation_is_the_change_of_the_signal_probability():
    one, other = np.array([0.2, 0.9, 0.5]), np.array([0.5, 0.85, 0.5])
    assert total_variation(logits_of(one), logits_of(other)) == pytest.approx(np.abs(one - other))
    assert flips(logits_of([0.2, 0.4]), logits_of([0.6, 0.1])).tolist() == [1, 0]


def test_total_variation_of_more_classes_is_one_minus_the_overlap():
    one, other = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.1, 0.3])
    overlap = np.minimum(one, other).sum()
    assert total_variation(np.log(one), np.log(other) + 7) == pytest.approx(1 - overlap)


def test_spread_by_hand():
    # The second class is the signal; three runs, four jets, two of each class.
    probability = np.array([[0.1, 0.6, 0.7, 0.9], [0.3, 0.4, 0.7, 0.9], [0.2, 0.2, 0.7, 0.3]])
    found = spread(logits_of(probability), Truth(np.array([0, 0, 1, 1]), 1))
    assert found.accuracy.values == (0.75, 1.0, 0.75)
    assert found.auc.values == (1.0, 1.0, 1.0)
    assert found.flip_rate.value == pytest.approx((0 + 2 / 3 + 0 + 2 / 3) / 4)
    assert found.variation.value == pytest.approx((0.4 + 0.8 + 0 + 1.2) / 3 / 4)
    c4 = math.sqrt(math.pi) / 2
    assert found.deviation.value == pytest.approx((0.1 + 0.2 + 0 + 0.6 / math.sqrt(3)) / 4 / c4)


def test_equal_runs_have_no_spread(runs, labels):
    found = spread(np.stack([runs[0]] * 3), Truth(labels, None))
    assert found.deviation == pytest.approx((0, 0))
    assert found.variation == found.flip_rate == (0, 0)
    assert found.rank_correlation == pytest.approx((1, 0))
    assert found.auc.spread == pytest.approx(0)
    with pytest.raises(ValueError, match="one run has no spread"):
        spread(runs[:1], Truth(labels, None))


def test_deviation_does_not_depend_on_the_number_of_runs():
    random = np.random.default_rng(3)
    for number in (2, 3, 5):
        # Small steps around one half, where the probability is linear in the logits.
        logits = np.stack([np.zeros((number, 20011)), 0.04 * random.normal(size=(number, 20011))], axis=-1)
        found = mean(deviations(logits, np.ones(20011, dtype=int)))
        assert abs(found.value - 0.01) < 4 * found.error + 1e-5


def test_rank_correlation_uses_scores():
    random = np.random.default_rng(4)
    scores = random.normal(size=(3, 53))
    logits = np.stack([-scores, np.zeros_like(scores)], axis=-1)
    pairs = [spearmanr(scores[i], scores[j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    assert rank_correlation(logits) == pytest.approx(np.mean(pairs))
    assert rank_correlation(np.stack([logits[0], np.exp(logits[0])])) == pytest.approx(1)
    assert rank_correlation(np.stack([logits[0], -logits[0]])) == pytest.approx(-1)


def test_error_of_the_rank_correlation_matches_its_spread():
    random, values, errors = np.random.default_rng(5), [], []
    for _ in range(60):
        common = random.normal(size=300)
        logits = np.stack([np.stack([np.zeros(300), common + random.normal(size=300)], axis=1) for _ in range(2)])
        found = spread(logits, Truth(np.arange(300) % 2, 1)).rank_correlation
        values.append(found.value)
        errors.append(found.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_response_by_hand():
    labels = np.array([0, 0, 1, 1])
    before = logits_of([0.1, 0.4, 0.3, 0.9])
    changed = [logits_of([0.1, 0.6, 0.3, 0.9]), logits_of([0.1, 0.4, 0.7, 0.9])]
    found = response("smeared pT", 0.1, changed, before, Truth(labels, 1))
    assert found.auc_change.value == pytest.approx((0 + 0.25) / 2)
    assert found.accuracy_change.value == pytest.approx(((2 - 3) / 4 + (4 - 3) / 4) / 2)
    assert found.variation.value == pytest.approx((0.2 / 2 + 0.4 / 2) / 4)
    assert found.flip_rate.value == pytest.approx(0.25)
    same = response("none", 0.0, [before], before, Truth(labels, 1))
    assert same[2:] == ((0, 0),) * 4


def test_more_classes_have_a_macro_auc(runs, labels):
    found = response("none", 0.1, [runs[1]], runs[0], Truth(labels, None))
    jets = Truth(labels, None)
    assert found.auc_change.value == pytest.approx(jets.auc(runs[1]).value - jets.auc(runs[0]).value)
