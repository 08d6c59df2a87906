r"""Metrics of class separation, with statistical errors.

``labels`` are class indices ``[jets]``; ``signal`` is the class index of the signal. Scores have the shape ``[jets,
classes]`` or ``[jets]``. Two-dimensional scores are logits (up to a constant per jet, as log-probabilities are) or
probabilities, which ``as_logits`` recognises, so both give the same numbers. One-dimensional scores are for two classes
and increase towards the signal class, on any scale. Errors are those of a finite test sample, not the spread over
training runs, which most papers quote.

With ``weights`` ``[jets]``, sums over jets become sums of weights. Errors follow from the influence of each jet on the
result, with squared weights: if weights and scores are independent, n jets count as
:math:`n_\mathrm{eff} = (\sum w)^2 / \sum w^2`. Weights must not be negative, or efficiencies would not be monotonic.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

__all__ = [
    "Estimate",
    "accuracy",
    "auc_difference",
    "background_rejection",
    "classification_report",
    "macro_auc",
    "roc_auc",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WORKING_POINTS = (0.5, 0.3)
"""Signal efficiencies at which rejections for two classes are quoted."""

ROUNDING = 0.01
"""Largest accepted deviation of a jet's summed probabilities from one."""

DEFAULT_EFFICIENCY = 0.5
"""Signal efficiency at which rejections for more than two classes are quoted, unless set per class."""


class Estimate(NamedTuple):
    """A value and its standard error, printed with two digits of the error."""

    value: float
    error: float

    def __str__(self) -> str:
        if not (math.isfinite(self.value) and math.isfinite(self.error) and self.error > 0):
            return f"{self.value:.4g} +- {self.error:.2g}"
        digits = max(0, 1 - math.floor(math.log10(float(f"{self.error:.1e}"))))  # rounded first: 0.0996 becomes 0.10
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}"


def as_logits(scores: ArrayLike) -> Floats:
    r"""Logits of two-dimensional scores: logarithms of probabilities, logits unchanged.

    Probabilities are recognised by non-negative rows that sum to one within 0.01, the rounding of 16-bit formats and of
    files with few digits. Zeros are replaced by the smallest normal number.
    """
    values = np.asarray(scores, dtype=np.float64)
    return np.log(np.maximum(values, np.finfo(np.float64).tiny)) if _are_probabilities(values) else values


def _are_probabilities(values: Floats) -> bool:
    return bool(values.ndim == 2 and (values >= 0).all() and (np.abs(values.sum(1) - 1) <= ROUNDING).all())


def effective_number(weights: ArrayLike) -> float:
    r"""Number of jets of equal weight with the same relative error: :math:`(\sum w)^2 / \sum w^2`."""
    values = np.asarray(weights, dtype=np.float64)
    return float(np.square(values.sum()) / np.sum(np.square(values)))  # exactly one for a single jet


def roc_auc(labels: ArrayLike, scores: ArrayLike, signal: int = 1, weights: ArrayLike | None = None) -> Estimate:
    r"""Area under the ROC curve: the probability that a signal jet scores above a background jet, ties counting half.

    With components :math:`V_i` of the :math:`m` signal jets (the fraction of background jets below jet i) and
    :math:`V_j` of the :math:`n` background jets (the fraction of signal jets above jet j),

    .. math:: A = \frac1m \sum_i V_i, \qquad
              \sigma_A^2 = \frac{1}{m(m-1)} \sum_i (V_i - A)^2 + \frac{1}{n(n-1)} \sum_j (V_j - A)^2

    (DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837). Each class is looked up in the sorted scores of the
    other, in O(N log N). The error is zero for perfect separation and NaN if a class has only one jet (of positive
    weight).

    With weights, fractions and means are weighted, and :math:`1 / m(m-1)` becomes
    :math:`w_i^2 / (\sum w)^2 \cdot n_\mathrm{eff} / (n_\mathrm{eff} - 1)`, unchanged for equal weights.
    """
    value, influence = _auc_influence(*discriminant(labels, scores, signal, weights=weights))
    return Estimate(value, _norm(influence))


def auc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, signal: int = 1, weights: ArrayLike | None = None
) -> Estimate:
    """AUC of ``scores_a`` minus that of ``scores_b`` on the same jets, with DeLong's error of the difference."""
    value_a, influence_a = _auc_influence(*discriminant(labels, scores_a, signal, weights=weights))
    value_b, influence_b = _auc_influence(*discriminant(labels, scores_b, signal, weights=weights))
    return Estimate(value_a - value_b, _norm(influence_a - influence_b))


def macro_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Estimate:
    """Mean over classes of the AUC of ``p_class`` for that class against all others; error as in ``roc_auc``."""
    value, influence = _macro_auc_influence(labels, scores, weights)
    return Estimate(value, _norm(influence))


def macro_auc_difference(
    labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, weights: ArrayLike | None = None
) -> Estimate:
    """``macro_auc`` of ``scores_a`` minus that of ``scores_b`` on the same jets; error as in ``auc_difference``."""
    value_a, influence_a = _macro_auc_influence(labels, scores_a, weights)
    value_b, influence_b = _macro_auc_influence(labels, scores_b, weights)
    return Estimate(value_a - value_b, _norm(influence_a - influence_b))


def accuracy(
    labels: ArrayLike, scores: ArrayLike, threshold: float | None = None, weights: ArrayLike | None = None
) -> Estimate:
    r"""Fraction of jets whose class has the highest score, with binomial error sqrt(a (1 - a) / jets).

    One-dimensional scores need a ``threshold``, at or above which a jet is assigned to class 1. With weights, and
    :math:`r_i` one for a correct jet, else zero, the error is :math:`\sqrt{\sum w_i^2 (r_i - a)^2} / \sum w_i`.
    """
    index, values = _checked(labels, scores)
    if np.ndim(scores) == 2:
        predicted = values.argmax(axis=1)
    elif threshold is None:
        raise ValueError("the accuracy of one-dimensional scores needs a threshold")
    else:
        predicted = values[:, 1] >= threshold
    right, w = predicted == index, _checked_weights(weights, len(index))
    value = float(np.average(right, weights=w))
    return Estimate(value, _norm(w * (right - value)) / float(w.sum()))


def background_rejection(
    labels: ArrayLike,
    scores: ArrayLike,
    signal_efficiency: float,
    signal: int = 1,
    background: int | None = None,
    weights: ArrayLike | None = None,
) -> Estimate:
    r"""Background rejection :math:`1/\varepsilon_B` at a fixed signal efficiency :math:`\varepsilon_S`.

    :math:`\varepsilon_B` is interpolated linearly in :math:`\varepsilon_S` between neighbouring points of the full ROC
    curve, one point per distinct score; where the curve is vertical, the lowest :math:`\varepsilon_B` is used. The
    error

    .. math:: \sigma^2(\varepsilon_B) = \frac{\varepsilon_B (1 - \varepsilon_B)}{n_B} + \left(
              \frac{d\varepsilon_B}{d\varepsilon_S} \right)^2 \sigma_S^2, \qquad
              \sigma_S^2 = \frac{\varepsilon_S (1 - \varepsilon_S)}{n_S}, \qquad
              \sigma(1/\varepsilon_B) = \sigma(\varepsilon_B) / \varepsilon_B^2

    includes the fluctuations of the background above the cut and of the cut itself, which is defined by signal jets
    (Hsieh and Turnbull, Annals of Statistics 24 (1996) 25); the slope is the chord between
    :math:`\varepsilon_S \pm \sigma_S`. The first term alone is too small, by a third at 1/eB = 6 with equally many jets
    of both classes. The error is symmetric and of first order: with fewer than about ten background jets above the cut,
    the true distribution is skewed. If none passes, value and error are infinite.

    With weights, :math:`\varepsilon (1 - \varepsilon) / n` of either class becomes
    :math:`[q (1 - \varepsilon)^2 + (1 - q)\, \varepsilon^2] / n_\mathrm{eff}`, where :math:`q` is the fraction of
    :math:`\sum w^2` above the cut: the variance of a ratio of sums of weights.

    Args:
        labels: class indices ``[jets]``.
        scores: as described at the top of the module.
        signal_efficiency: in (0, 1].
        signal: class index of the signal.
        background: class index of the background; required for more than two classes. Jets of other classes are then
            left out, and the score is equivalent to ``p_signal / (p_signal + p_background)``.
        weights: weights of the jets ``[jets]``, if any.
    """
    if not 0 < signal_efficiency <= 1:
        raise ValueError(f"the signal efficiency should be in (0, 1], found {signal_efficiency}")
    two = discriminant(labels, scores, signal, background, weights)
    (eps,), (error,) = background_efficiency(*two, [signal_efficiency])
    return Estimate(float(1 / eps), float(error / eps**2)) if eps > 0 else Estimate(math.inf, math.inf)


def classification_report(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    signal: str | None = None,
    signal_efficiency: Mapping[str, float] | None = None,
    weights: ArrayLike | None = None,
) -> dict[str, Estimate]:
    """Accuracy, AUC and background rejection.

    For two classes, ``signal`` names the signal, and rejections are at signal efficiencies 0.5 and 0.3. For more, the
    AUC is the macro average, the first class is the background, and its rejection is given for each other class
    at that class's ``signal_efficiency``, by default 0.5, as in papers on JetClass (arXiv 2202.03772).
    One-dimensional scores have no accuracy, as there is no threshold.
    """
    report = {} if np.ndim(scores) == 1 else {"accuracy": accuracy(labels, scores, weights=weights)}
    if len(classes) > 2:
        report["auc"] = macro_auc(labels, scores, weights)
        for index, name in enumerate(classes[1:], start=1):
            at = (signal_efficiency or {}).get(name, DEFAULT_EFFICIENCY)
            report[f"rejection_at_{at}/{name}"] = background_rejection(labels, scores, at, index, 0, weights)
        return report
    if signal not in classes:
        raise ValueError(f"the signal '{signal}' should be one of the classes {', '.join(classes)}")
    index = classes.index(signal)
    report["auc"] = roc_auc(labels, scores, index, weights)
    for at in WORKING_POINTS:
        report[f"rejection_at_{at}"] = background_rejection(labels, scores, at, index, weights=weights)
    return report


def discriminant(
    labels: ArrayLike,
    scores: ArrayLike,
    signal: int = 1,
    background: int | None = None,
    weights: ArrayLike | None = None,
) -> tuple[Bools, Floats, Floats]:
    """Signal mask, score and weight of each jet: the score is ln p_signal - ln p_background, which is logit_signal -
    logit_background, and weights are by default one. Jets of other classes are left out.
    """
    index, values = _checked(labels, scores)
    w = _checked_weights(weights, len(index))
    if background is None:
        if values.shape[1] != 2:
            raise ValueError(f"scores of {values.shape[1]} classes need a background class")
        background = 1 - signal
    kept = (index == signal) | (index == background)
    is_signal = index[kept] == signal
    if is_signal.all() or not is_signal.any():
        missing = signal if not is_signal.any() else background
        raise ValueError(f"no jets with label {missing}: efficiencies need jets of both classes")
    for label in (signal, background):
        if not w[index == label].any():
            raise ValueError(f"all jets with label {label} have weight 0: efficiencies need weight in both classes")
    if np.ndim(scores) == 1:
        return is_signal, values[kept, 1], w[kept]
    return is_signal, values[kept, signal] - values[kept, background], w[kept]


def background_efficiency(
    is_signal: Bools, score: Floats, weights: Floats, signal_efficiency: ArrayLike
) -> tuple[Floats, Floats]:
    """Background efficiency and its error at each signal efficiency, from the results of ``discriminant``; see
    ``background_rejection``.
    """
    fpr, tpr, _ = roc_curve(is_signal, score, sample_weight=weights, drop_intermediate=False)
    # Fractions of squared weights above the same cuts.
    fpr_squares, tpr_squares, _ = roc_curve(is_signal, score, sample_weight=weights**2, drop_intermediate=False)
    eps_s = np.asarray(signal_efficiency, dtype=np.float64)
    eps = _first_reaching(tpr, fpr, eps_s)
    spread = _efficiency_error(eps_s, _first_reaching(tpr, tpr_squares, eps_s), weights[is_signal])
    own = _efficiency_error(eps, _first_reaching(tpr, fpr_squares, eps_s), weights[~is_signal])
    high, low = (_first_reaching(tpr, fpr, np.clip(eps_s + shift, 0, 1)) for shift in (spread, -spread))
    # The slope of the chord times the spread is half the height of the chord.
    return eps, np.hypot(own, (high - low) / 2)


def _efficiency_error(efficiency: Floats, squares: Floats, weights: Floats) -> Floats:
    variance = squares * (1 - efficiency) ** 2 + (1 - squares) * efficiency**2
    return np.sqrt(variance / effective_number(weights))


def _first_reaching(tpr: Floats, fpr: Floats, wanted: Floats) -> Floats:
    # Rounded, so that a wanted 0.3 equals the point 3/10.
    tpr, wanted = np.round(tpr, 12), np.round(wanted, 12)
    right = np.searchsorted(tpr, wanted)
    left = np.maximum(right - 1, 0)
    # The left point has a smaller signal efficiency, except at zero, where left and right are both the first point.
    step = np.where(right > left, tpr[right] - tpr[left], 1)
    found = fpr[left] + (fpr[right] - fpr[left]) * (wanted - tpr[left]) / step
    return np.clip(found, fpr[left], fpr[right])  # rounding must not lead beyond 1


def _auc_influence(is_signal: Bools, score: Floats, weights: Floats) -> tuple[float, Floats]:
    # The AUC, and the influence of each jet on it, scaled so that squares add up to DeLong's variance.
    fraction = np.empty(len(score))
    signal, background = (mine[np.argsort(score[mine])] for mine in map(np.flatnonzero, (is_signal, ~is_signal)))
    fraction[signal] = _fraction_below(score[signal], score[background], weights[background])
    fraction[background] = 1 - _fraction_below(score[background], score[signal], weights[signal])
    value = float(np.average(fraction[is_signal], weights=weights[is_signal]))
    influence = fraction - value
    for mine in (is_signal, ~is_signal):
        number = effective_number(weights[mine])
        scale = math.sqrt(number / (number - 1)) if number > 1 else math.nan
        influence[mine] *= weights[mine] / weights[mine].sum() * scale
    return value, influence


def _fraction_below(score: Floats, others: Floats, weights: Floats) -> Floats:
    # Fraction of the total weight of the other jets that lies below each score, ties counting half; both in ascending
    # order, for speed.
    sums = np.concatenate([[0.0], np.cumsum(weights)])
    below, not_above = (sums[np.searchsorted(others, score, side)] for side in ("left", "right"))
    return (below + not_above) / (2 * sums[-1])


def _macro_auc_influence(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[float, Floats]:
    # Each class is the signal once; the influences of a jet on all AUCs are added before squaring.
    index, logits = _checked(labels, scores)
    w = _checked_weights(weights, len(index))
    classes = logits.shape[1]
    counts = np.bincount(index, w, classes)
    if not counts.all():
        missing = f"no jets with label {counts.argmin()}" + ("" if weights is None else ", or all have weight 0")
        raise ValueError(f"{missing}: a macro AUC needs jets of every class")
    total, influence = 0.0, np.zeros(len(index))
    given = np.asarray(scores, dtype=np.float64)
    probabilities = _are_probabilities(given)
    for k in range(classes):
        # The log-odds of class k order jets as its probability does, but do not saturate at 1.
        score = logits[:, k] - np.logaddexp.reduce(np.delete(logits, k, axis=1), axis=1)
        if probabilities:  # equal ones stay equal; those that round to 1 have log-odds above 4
            score = np.where(given[:, k] < 1, given[:, k], score)
        value, one = _auc_influence(index == k, score, w)
        total += value / classes
        influence += one / classes
    return total, influence


def _norm(influence: Floats) -> float:
    return float(np.sqrt(np.sum(influence**2)))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[Any], Floats]:
    index, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if index.ndim != 1 or index.dtype.kind not in "iub":
        raise ValueError(f"labels should be integers of shape [jets], found {index.dtype} of shape {index.shape}")
    if values.ndim not in (1, 2) or len(values) != len(index) or values.size == 0:
        raise ValueError(f"scores should have the shape [{len(index)}] or [{len(index)}, classes], not {values.shape}")
    if not np.isfinite(values).all():
        jet = int(np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))[0])
        raise ValueError(f"the score of jet {jet} is {values[jet]}: scores should be finite")
    if values.ndim == 2 and values.shape[1] == 1:
        raise ValueError(f"scores of shape {values.shape} have one class only: give scores[:, 0], for two classes")
    values = np.stack([-values, values], axis=1) if values.ndim == 1 else as_logits(values)
    if index.min() < 0 or index.max() >= values.shape[1]:
        raise ValueError(f"labels should be in 0..{values.shape[1] - 1}, found {index.min()}..{index.max()}")
    return index.astype(np.int64), values


def _checked_weights(weights: ArrayLike | None, jets: int) -> Floats:
    values = np.ones(jets) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.shape != (jets,):
        raise ValueError(f"weights should have the shape [{jets}], not {values.shape}")
    if bad := np.flatnonzero(~(np.isfinite(values) & (values >= 0)))[:1].tolist():
        raise ValueError(
            f"the weight of jet {bad[0]} is {values[bad[0]]}: weights should be finite and not negative, or "
            "efficiencies are not monotonic"
        )
    if not values.any():
        raise ValueError("all weights are 0: some should be positive")
    return values
