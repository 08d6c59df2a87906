import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import accuracy_score, roc_auc_score

from iagraph.metrics import (
    Estimate,
    accuracy,
    as_logits,
    auc_difference,
    background_rejection,
    classification_report,
    discriminant,
    effective_number,
    macro_auc,
    macro_auc_difference,
    roc_auc,
)


def gaussian_jets(rng, signal, background, separation):
    labels = np.r_[np.ones(signal, int), np.zeros(background, int)]
    return labels, np.r_[rng.normal(separation, 1, signal), rng.normal(0, 1, background)]


def pulls(estimates, truth):
    return np.array([(each.value - truth) / each.error for each in estimates])


# Few distinct values, so that ties are common.
binary_samples = st.lists(st.tuples(st.integers(0, 1), st.integers(-4, 4)), min_size=4, max_size=40).filter(
    lambda jets: 2 <= sum(label for label, _ in jets) <= len(jets) - 2
)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.88123, 0.00411, "0.8812 +- 0.0041"),
        (57.31, 4.07, "57.3 +- 4.1"),
        (2012.3, 30.2, "2012 +- 30"),
        (20123.0, 1234.0, "20123 +- 1234"),
        (0.5, 0.0996, "0.50 +- 0.10"),
        (1.0, 0.0, "1 +- 0"),
        (math.inf, math.inf, "inf +- inf"),
        (0.75, math.nan, "0.75 +- nan"),
    ],
)
def test_estimates_print_two_digits_of_their_error(value, error, text):
    assert str(Estimate(value, error)) == text


def test_auc_and_its_error_by_hand():
    # Signal 1, 3, 3; background 0, 1: of six pairs five are in order and one is tied.
    # Components of the signal jets: 0.75, 1, 1; of the background jets: 1, 2.5/3.
    value, error = roc_auc([1, 1, 1, 0, 0], [1, 3, 3, 0, 1])
    assert value == pytest.approx(5.5 / 6)
    signal = np.var([0.75, 1, 1], ddof=1) / 3
    background = np.var([1, 2.5 / 3], ddof=1) / 2
    assert error == pytest.approx(math.sqrt(signal + background))


@given(binary_samples)
def test_auc_equals_sklearn_and_pair_counting(jets):
    labels, scores = np.array(jets).T
    value, error = roc_auc(labels, scores)
    pairs = [(s > b) + 0.5 * (s == b) for s, b in itertools.product(scores[labels == 1], scores[labels == 0])]
    assert value == pytest.approx(np.mean(pairs))
    assert value == pytest.approx(roc_auc_score(labels, scores))
    matrix = np.reshape(pairs, (labels.sum(), -1))
    variance = matrix.mean(1).var(ddof=1) / matrix.shape[0] + matrix.mean(0).var(ddof=1) / matrix.shape[1]
    assert error == pytest.approx(math.sqrt(variance))


@given(binary_samples)
def test_auc_is_invariant_under_order_and_monotonic_maps(jets):
    labels, scores = np.array(jets).T
    result = roc_auc(labels, scores)
    logits = np.stack([1.5 - scores, 1.5 + scores], axis=1)
    assert roc_auc(labels, logits) == pytest.approx(result)
    assert roc_auc(labels, scores**3.0) == pytest.approx(result)
    assert roc_auc(1 - labels, logits[:, ::-1], signal=0) == pytest.approx(result)
    assert roc_auc(labels, -scores, signal=0) == pytest.approx(result)
    assert roc_auc(labels, -scores).value == pytest.approx(1 - result.value)


def test_auc_error_covers():
    rng = np.random.default_rng(1)
    truth = norm.cdf(1 / math.sqrt(2))
    pull = pulls([roc_auc(*gaussian_jets(rng, 80, 130, 1.0)) for _ in range(600)], truth)
    assert abs(pull.mean()) < 0.15
    assert 0.92 < pull.std() < 1.08


def test_auc_error_of_a_single_jet_and_of_perfect_separation():
    assert math.isnan(roc_auc([1, 0, 0], [2, 1, 3]).error)
    assert roc_auc([1, 1, 0, 0], [3, 4, 1, 2]) == (1.0, 0.0)


def test_auc_difference_accounts_for_the_correlation():
    rng = np.random.default_rng(2)
    paired, unpaired = [], []
    for _ in range(400):
        labels, scores = gaussian_jets(rng, 90, 70, 1.0)
        better, worse = scores + rng.normal(0, 0.3, 160), scores + rng.normal(0, 0.7, 160)
        paired.append(auc_difference(labels, better, worse))
        unpaired.append(math.hypot(roc_auc(labels, better).error, roc_auc(labels, worse).error))
    truth = norm.cdf(1 / math.sqrt(2 + 2 * 0.3**2)) - norm.cdf(1 / math.sqrt(2 + 2 * 0.7**2))
    pull = pulls(paired, truth)
    assert abs(pull.mean()) < 0.15
    assert 0.9 < pull.std() < 1.1
    assert np.mean([each.error for each in paired]) < 0.7 * np.mean(unpaired)


def test_auc_difference_of_a_score_with_itself_is_exactly_zero():
    labels, scores = gaussian_jets(np.random.default_rng(3), 20, 30, 1.0)
    assert auc_difference(labels, scores, 2 * scores + 1) == (0.0, 0.0)


def test_accuracy():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.5], [0.2, 0.1]])
    labels = np.array([0, 1, 1, 0])
    assert accuracy(labels, logits) == pytest.approx((0.75, math.sqrt(0.75 * 0.25 / 4)))
    assert accuracy(labels, logits).value == accuracy_score(labels, logits.argmax(1))
    assert accuracy(labels, logits[:, 1] - logits[:, 0], threshold=0.0) == accuracy(labels, logits)
    with pytest.raises(ValueError, match="needs a threshold"):
        accuracy(labels, logits[:, 1])


def test_rejection_at_full_efficiency_despite_rounding():
    # Interpolation to 1 between 4/5 and 1 gives 1 + 2e-16.
    labels, scores = [1, 0, 1, 0, 1, 1, 1, 0], [4, 2, 2, 0, 1, 3, 0, 0]
    assert background_rejection(labels, scores, 1.0) == (1, 0)
    assert background_rejection(labels, scores, 1.0, weights=np.full(8, 0.7)) == (1, 0)


@settings(max_examples=50)
@given(binary_samples, st.sampled_from([None, 1, 2]))
def test_rejection_at_full_efficiency_is_that_of_the_lowest_signal_score(jets, seed):
    labels, scores = np.array(jets).T
    weights = None if seed is None else np.random.default_rng(seed).exponential(1, len(jets))
    value, error = background_rejection(labels, scores, 1.0, weights=weights)
    passed = scores[labels == 0] >= scores[labels == 1].min()
    share = np.average(passed, weights=None if seed is None else weights[labels == 0])
    assert value == (pytest.approx(1 / share) if passed.any() else math.inf)
    assert error >= 0


def test_rejection_by_hand():
    # ROC (eS, eB): (1/4, 0) (1/2, 0) (1/2, 1/4) (1/2, 1/2) (3/4, 1/2) (3/4, 3/4) (1, 3/4) (1, 1)
    labels, scores = [1, 1, 1, 1, 0, 0, 0, 0], [9, 8, 5, 2, 7, 6, 3, 1]
    assert background_rejection(labels, scores, 0.5) == (math.inf, math.inf)  # the lowest point of the vertical piece
    assert background_rejection(labels, scores, 0.6).value == pytest.approx(2)  # between (1/2, 1/2) and (3/4, 1/2)
    assert background_rejection(labels, scores, 0.75).value == pytest.approx(2)
    assert background_rejection(labels, scores, 1.0).value == pytest.approx(4 / 3)
    # A tie of signal and background makes a diagonal: (0, 0) to (2/2, 1/4), and half of it at eS = 0.5.
    assert background_rejection([1, 1, 0, 0, 0, 0], [5, 5, 5, 1, 2, 3], 0.5).value == pytest.approx(8)


def test_rejection_error_by_hand():
    # One score value per class mixture: the curve is the straight line from (0, 0) to (0.5, 0.1) and on to (1, 1).
    signal, background = 400, 1000
    labels = np.r_[np.ones(signal, int), np.zeros(background, int)]
    scores = np.r_[np.repeat([1, 0], signal // 2), np.repeat([1, 0], [100, 900])]
    value, error = background_rejection(labels, scores, 0.25)
    eps, slope, spread = 0.05, 0.2, math.sqrt(0.25 * 0.75 / signal)
    assert value == pytest.approx(20)
    assert error == pytest.approx(math.hypot(math.sqrt(eps * (1 - eps) / background), slope * spread) / eps**2)


@pytest.mark.parametrize(
    ("signal", "background", "separation", "efficiency"),
    [(400, 400, 1.0, 0.5), (2000, 2000, 1.5, 0.3), (150, 3000, 1.5, 0.5), (3000, 300, 1.0, 0.5)],
)
def test_rejection_error_covers(signal, background, separation, efficiency):
    rng = np.random.default_rng(4)
    truth = 1 / norm.sf(norm.isf(efficiency) + separation)
    jets = (gaussian_jets(rng, signal, background, separation) for _ in range(500))
    pull = pulls([background_rejection(*each, efficiency) for each in jets], truth)
    assert abs(pull.mean()) < 0.2
    assert 0.9 < pull.std() < 1.15
    assert 0.63 < np.mean(np.abs(pull) < 1) < 0.78


def test_rejection_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(5)
    labels, scores = gaussian_jets(rng, 2000, 2000, 1.0)
    resampled = []
    for _ in range(300):
        pick = np.r_[rng.integers(0, 2000, 2000), rng.integers(2000, 4000, 2000)]
        resampled.append(background_rejection(labels[pick], scores[pick], 0.5).value)
    assert background_rejection(labels, scores, 0.5).error == pytest.approx(np.std(resampled), rel=0.2)


@settings(max_examples=50)
@given(binary_samples, st.floats(0.01, 1))
def test_rejection_lies_between_neighbouring_cuts(jets, efficiency):
    labels, scores = np.array(jets).T
    value, error = background_rejection(labels, scores, efficiency)
    cuts = [(np.mean(scores[labels == 1] >= cut), np.mean(scores[labels == 0] >= cut)) for cut in np.unique(scores)]
    loosest = min(eps_b for eps_s, eps_b in cuts if eps_s >= efficiency - 1e-12)
    tightest = max((eps_b for eps_s, eps_b in cuts if eps_s < efficiency - 1e-12), default=0)
    assert tightest - 1e-9 <= 1 / value <= loosest + 1e-9
    assert error >= 0


def test_efficiency_at_a_point_of_the_curve_is_met_despite_rounding():
    # 0.1 + 0.2 is a bit more than 3/10 and must not reach for the fourth jet, below the background jet.
    labels, scores = np.array([1] * 10 + [0]), np.r_[np.arange(20, 10, -1), 17.5]
    assert background_rejection(labels, scores, 0.1 + 0.2).value == math.inf
    assert background_rejection(labels, scores, 0.31).value == 1


def test_report_of_two_classes():
    rng = np.random.default_rng(6)
    labels, scores = gaussian_jets(rng, 300, 200, 1.0)
    logits = np.stack([scores - 0.5, np.zeros_like(scores)], axis=1)
    report = classification_report(1 - labels, logits, ["quark", "gluon"], signal="quark")
    assert report == {
        "accuracy": accuracy(labels, scores, threshold=0.5),
        "auc": pytest.approx(roc_auc(labels, scores)),
        "rejection_at_0.5": pytest.approx(background_rejection(labels, scores, 0.5)),
        "rejection_at_0.3": pytest.approx(background_rejection(labels, scores, 0.3)),
    }
    flat = classification_report(labels, scores, ["gluon", "quark"], signal="quark")
    assert flat == {key: value for key, value in report.items() if key != "accuracy"}
    with pytest.raises(ValueError, match="signal 'top' should be one of the classes quark, gluon"):
        classification_report(labels, logits, ["quark", "gluon"], signal="top")


def test_more_than_two_classes():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 500)
    logits = rng.normal(0, 1, (500, 3)) + 1.5 * np.eye(3)[labels]
    odds = np.exp(logits)
    probabilities = odds / odds.sum(1, keepdims=True)
    macro = macro_auc(labels, logits)
    assert macro.value == pytest.approx(roc_auc_score(labels, probabilities, multi_class="ovr"))

    report = classification_report(labels, logits, ["qcd", "higgs", "top"], signal_efficiency={"top": 0.3})
    assert report["auc"] == macro
    two = labels != 1
    score = probabilities[two, 2] / (probabilities[two, 2] + probabilities[two, 0])
    expected = background_rejection((labels[two] == 2).astype(int), score, 0.3)
    assert report["rejection_at_0.3/top"] == pytest.approx(expected)
    assert list(report) == ["accuracy", "auc", "rejection_at_0.5/higgs", "rejection_at_0.3/top"]
    assert report["rejection_at_0.5/higgs"] == background_rejection(labels, logits, 0.5, 1, background=0)
    with pytest.raises(ValueError, match="3 classes need a background class"):
        background_rejection(labels, logits, 0.5)


def test_macro_auc_of_two_classes_is_the_auc_and_its_error_agrees_with_the_bootstrap():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 3, 600)
    logits = rng.normal(0, 1, (600, 3)) + np.eye(3)[labels]
    two = labels < 2
    assert macro_auc(labels[two], logits[two, :2]) == pytest.approx(roc_auc(labels[two], logits[two, :2]))
    picks = [rng.integers(0, 600, 600) for _ in range(300)]
    resampled = [macro_auc(labels[pick], logits[pick]).value for pick in picks]
    assert macro_auc(labels, logits).error == pytest.approx(np.std(resampled), rel=0.2)


def test_macro_auc_of_probabilities_keeps_ties():
    # By rounding, .3 + .4 is not .5 + .2: sums of the other probabilities would break the tie of all p_0.
    labels = np.array([0, 1, 2, 0, 1, 2])
    given = np.array([[3, 3, 4], [3, 5, 2], [3, 1, 6], [3, 6, 1], [3, 2, 5], [3, 4, 3]]) / 10
    assert macro_auc(labels, given).value == pytest.approx(roc_auc_score(labels, given, multi_class="ovr"))
    rng = np.random.default_rng(15)
    labels, weights = rng.integers(0, 4, 300), rng.exponential(1, 300)
    rounded = rng.multinomial(10, softmax(np.eye(4))[labels]) / 10
    for w in (None, weights):
        expected = np.mean([roc_auc_score(labels == k, rounded[:, k], sample_weight=w) for k in range(4)])
        assert macro_auc(labels, rounded, w).value == pytest.approx(expected)


def test_macro_auc_ranks_probabilities_that_round_to_one():
    """Below one by p itself, at one by the others, although two of these sum to more than the rest of 0.999."""
    given = [[1, 1e-12, 2e-12], [1, 3e-9, 1e-9], [1, 0.004, 0.003], [0.999, 0.0005, 0.0005], [0, 1, 0], [0, 0, 1]]
    for labels, expected in (([0, 0, 0, 1, 1, 2], 1), ([0, 0, 1, 0, 1, 2], 8 / 9), ([0, 1, 0, 0, 1, 2], 7 / 9)):
        found = 3 * macro_auc(labels, given).value
        others = [roc_auc_score(np.array(labels) == k, np.array(given)[:, k]) for k in (1, 2)]
        assert found - sum(others) == pytest.approx(expected)


def test_macro_auc_needs_every_class():
    with pytest.raises(ValueError, match="no jets with label 1: a macro AUC needs jets of every class"):
        macro_auc([0, 2, 2], np.eye(3))


def test_macro_auc_difference_of_two_classes_equals_the_auc_difference():
    labels, scores = gaussian_jets(np.random.default_rng(9), 60, 80, 1.0)
    logits, others = (np.stack([np.zeros(140), each], axis=1) for each in (scores, np.round(scores)))
    expected = auc_difference(labels, logits, others)
    assert macro_auc_difference(labels, logits, others) == pytest.approx(expected)
    assert macro_auc_difference(labels, logits, logits + 1) == (0.0, 0.0)


def test_macro_auc_difference_accounts_for_the_correlation():
    rng = np.random.default_rng(10)
    labels = rng.integers(0, 3, 500)
    shared = rng.normal(0, 1, (500, 3)) + np.eye(3)[labels]
    better, worse = (shared + rng.normal(0, spread, (500, 3)) for spread in (0.3, 0.7))
    value, error = macro_auc_difference(labels, better, worse)
    odds = [np.exp(each) / np.exp(each).sum(1, keepdims=True) for each in (better, worse)]
    assert value == pytest.approx(np.subtract(*(roc_auc_score(labels, each, multi_class="ovr") for each in odds)))
    picks = [rng.integers(0, 500, 500) for _ in range(300)]
    resampled = [macro_auc_difference(labels[pick], better[pick], worse[pick]).value for pick in picks]
    assert error == pytest.approx(np.std(resampled), rel=0.2)
    assert error < 0.8 * math.hypot(macro_auc(labels, better).error, macro_auc(labels, worse).error)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0, 1], [0.1, math.nan, math.nan], "score of jet 1 is nan"),
        ([1, 0, 1], [[0.0, 1.0], [0.0, 1.0], [math.inf, 0.0]], "score of jet 2 is .inf  0"),
        ([1, 1], [0.1, 0.2], "no jets with label 0"),
        ([0, 0], [0.1, 0.2], "no jets with label 1"),
        ([0.0, 1.0], [0.1, 0.2], "labels should be integers"),
        ([0, 2], [0.1, 0.2], r"labels should be in 0..1, found 0..2"),
        ([0, 1], [0.1, 0.2, 0.3], r"scores should have the shape \[2\] or \[2, classes\], not \(3,\)"),
        ([], [], "labels should be integers|scores should have the shape"),
        ([0, 1], [[0.3], [0.7]], r"scores of shape \(2, 1\) have one class only: give scores\[:, 0\]"),
    ],
)
def test_invalid_input_is_named(labels, scores, message):
    for metric in (roc_auc, lambda *jets: background_rejection(*jets, 0.5), discriminant):
        with pytest.raises(ValueError, match=message):
            metric(np.array(labels), np.array(scores))


@pytest.mark.parametrize("efficiency", [0, -0.1, 1.01, math.nan])
def test_signal_efficiency_has_a_range(efficiency):
    with pytest.raises(ValueError, match="signal efficiency should be in"):
        background_rejection([0, 1], [0, 1], efficiency)


ALL_METRICS = {
    "accuracy": accuracy,
    "macro_auc": macro_auc,
    "macro_auc_difference": lambda labels, scores, **more: macro_auc_difference(
        labels, scores, np.asarray(scores) ** 2, **more
    ),
    "background_rejection": lambda labels, scores, **more: background_rejection(labels, scores, 0.5, 1, 0, **more),
    "classification_report": lambda labels, scores, **more: classification_report(
        labels, scores, "abcd"[: scores.shape[1]], "b", **more
    )["auc"],
}
OF_TWO = {
    "roc_auc": roc_auc,
    "auc_difference": lambda labels, scores, **more: auc_difference(labels, scores, scores[:, ::-1], **more),
}


def class_jets(seed, jets, classes, separation=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, jets)
    return labels, rng.normal(0, 1, (jets, classes)) + separation * np.eye(classes)[labels]


def softmax(logits):
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_and_logits_give_the_same_metrics(classes, kind):
    labels, logits = class_jets(11, 700, classes)
    logits[:20] *= 30  # of which one probability is 1, or rounds to it, and others to 0
    probabilities = softmax(logits).astype(kind)
    for name, metric in {**ALL_METRICS, **(OF_TWO if classes == 2 else {})}.items():
        if "difference" not in name:  # of functions of the scores
            assert metric(labels, probabilities) == pytest.approx(metric(labels, logits), rel=1e-5), name
    is_signal, score, _ = discriminant(labels[20:], probabilities[20:], 1, 0)
    expected = discriminant(labels[20:], logits[20:], 1, 0)
    np.testing.assert_array_equal(is_signal, expected[0])
    np.testing.assert_allclose(score, expected[1], rtol=1e-4, atol=1e-5)


def test_scores_that_are_not_probabilities_are_unchanged():
    logits = np.array([[0.2, 0.8], [0.3, 0.8]])
    np.testing.assert_array_equal(as_logits(logits), logits)  # the second row sums to 1.1
    np.testing.assert_array_equal(as_logits(np.log([[0.2, 0.8]])), np.log([[0.2, 0.8]]))
    np.testing.assert_array_equal(as_logits([0.2, 0.8]), [0.2, 0.8])
    np.testing.assert_allclose(as_logits([[0.333, 0.333, 0.333]]), np.log(0.333))  # rounded in a file


class TestWeights:
    def test_equal_weights_change_nothing(self):
        labels, logits = class_jets(12, 300, 2)
        for metric in (*ALL_METRICS.values(), *OF_TWO.values()):
            expected = metric(labels, logits)
            assert metric(labels, logits, weights=np.full(300, 0.7)) == pytest.approx(expected)
        assert effective_number(np.full(300, 0.7)) == pytest.approx(300)

    def test_integer_weights_equal_repeated_jets(self):
        labels, logits = class_jets(13, 200, 3)
        logits = np.round(logits, 1)  # with ties
        weights = np.random.default_rng(13).integers(0, 4, 200)
        repeated = np.repeat(np.arange(200), weights)
        for name, metric in ALL_METRICS.items():
            value = metric(labels, logits, weights=weights).value
            assert value == pytest.approx(metric(labels[repeated], logits[repeated]).value), name

    @pytest.mark.parametrize("name", sorted({**ALL_METRICS, **OF_TWO}.keys() - {"classification_report"}))
    def test_errors_agree_with_the_bootstrap(self, name):
        # Weights that fall with the signal score: the effective number of jets alone would be wrong.
        rng = np.random.default_rng(14)
        labels, logits = class_jets(14, 1500, 2, 0.8)
        weights = rng.exponential(1, 1500) * np.exp(-0.5 * (logits[:, 1] - logits[:, 0]) * (labels == 1))
        metric = {**ALL_METRICS, **OF_TWO}[name]
        picks = (rng.integers(0, 1500, 1500) for _ in range(200))
        resampled = [metric(labels[pick], logits[pick], weights=weights[pick]).value for pick in picks]
        found = metric(labels, logits, weights=weights)
        assert found.error == pytest.approx(np.std(resampled), rel=0.2)
        assert abs(np.mean(resampled) - found.value) < found.error / 2

    def test_by_hand(self):
        # Signal 3 (weight 2) and 1 (weight 1), background 2 (weight 3) and 0 (weight 1).
        labels, scores, weights = [1, 1, 0, 0], [3, 1, 2, 0], [2, 1, 3, 1]
        value, error = roc_auc(labels, scores, weights=weights)
        assert value == pytest.approx((2 * 4 + 1 * 1) / 12)
        signal, background = np.array([1, 0.25]), np.array([2 / 3, 1])  # shares below, and above
        pulls = [(2 / 3, 1 / 3) * (signal - 0.75), (3 / 4, 1 / 4) * (background - 0.75)]
        numbers = [9 / 5, 16 / 10]
        assert error**2 == pytest.approx(sum(np.sum(p**2) * n / (n - 1) for p, n in zip(pulls, numbers, strict=True)))
        assert effective_number([3, 1]) == pytest.approx(1.6)

    @pytest.mark.parametrize("weight", [1, 0.1, 0.7, 3e-5])
    def test_the_error_of_a_single_weighted_jet_is_undefined(self, weight):
        for labels, scores, weights in (
            ([1, 0, 0], [0.9, 0.1, 0.2], [weight, 1, 1]),
            ([1, 1, 0, 0], [0.9, 0.3, 0.1, 0.2], [weight, 0, 1, 1]),
            ([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], [1, 1, weight, 0]),
            ([1, 0, 0, 0], [0.5, 0.1, 0.2, 0.9], [weight, 1, 1, 1]),
        ):
            value, error = roc_auc(labels, scores, weights=weights)
            assert value == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
            assert math.isnan(error)
            assert math.isnan(macro_auc(labels, np.stack([np.zeros(len(scores)), scores], 1), weights).error)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1, 1, -0.5, 1], r"weight of jet 2 is -0.5: weights should be finite and not negative, or efficiencies"),
            ([1, math.nan, 1, 1], "weight of jet 1 is nan"),
            ([1, 1], r"weights should have the shape \[4\], not \(2,\)"),
            ([0, 0, 0, 0], "all weights are 0"),
            ([0, 0, 1, 1], "all jets with label 1 have weight 0|no jets with label 1"),
        ],
    )
    def test_invalid_weights_are_named(self, weights, message):
        logits = np.array([[0.0, 1.0], [0.5, 0.0], [1.0, 0.0], [0.0, 0.3]])
        metrics = {**ALL_METRICS, **OF_TWO}
        for name in set(metrics) - ({"accuracy"} if weights[:2] == [0, 0] and any(weights) else set()):
            with pytest.raises(ValueError, match=message):
                metrics[name](np.array([1, 1, 0, 0]), logits, weights=weights)
