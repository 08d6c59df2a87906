"""How well a tagger separates classes, each number with its statistical error.

Scores have the shape `[jets, classes]` or `[jets]`. Two-dimensional ones are logits, or anything that differs from
them by a constant per jet (log-probabilities); two classes may also be given as probabilities. One-dimensional ones
belong to two classes and grow with the likeness to the signal class. The errors are those of a finite test sample;
the spread between trainings, which most papers quote, is another quantity.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WORKING_POINTS = (0.5, 0.3)
"""Signal efficiencies at which the rejections of two classes are compared."""

DEFAULT_EFFICIENCY = 0.5
"""Signal efficiency at which the rejections of more than two classes are compared, unless a class has its own."""


class Estimate(NamedTuple):
    """A number and its standard error, printed with two digits of the error."""

    value: float
    error: float

    def __str__(self) -> str:
        if not (math.isfinite(self.value) and math.isfinite(self.error) and self.error > 0):
            return f"{self.value:.4g} +- {self.error:.2g}"
        digits = max(0, 1 - math.floor(math.log10(float(f"{self.error:.1e}"))))  # rounded first: 0.0996 is 0.10
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}"


def roc_auc(labels: ArrayLike, scores: ArrayLike, signal: int = 1) -> Estimate:
    r"""Area under the ROC curve: the probability that a signal jet scores above a background jet, ties counting half.

    With the components :math:`V_i` of the :math:`m` signal jets (the share of background jets below jet i) and
    :math:`V_j` of the :math:`n` background jets (the share of signal jets above jet j),

    .. math:: A = \frac1m \sum_i V_i, \qquad
              \sigma_A^2 = \frac{1}{m(m-1)} \sum_i (V_i - A)^2 + \frac{1}{n(n-1)} \sum_j (V_j - A)^2

    (DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837), from midranks in O(N log N) (Sun and Xu, IEEE Signal
    Processing Letters 21 (2014) 1389). The error is zero for perfect separation and NaN for a class with one jet.
    """
    value, influence = _auc_influence(*discriminant(labels, scores, signal))
    return Estimate(value, _norm(influence))


def auc_difference(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike, signal: int = 1) -> Estimate:
    """AUC of `scores_a` minus that of `scores_b` on the same jets, with DeLong's error of the correlated difference."""
    value_a, influence_a = _auc_influence(*discriminant(labels, scores_a, signal))
    value_b, influence_b = _auc_influence(*discriminant(labels, scores_b, signal))
    return Estimate(value_a - value_b, _norm(influence_a - influence_b))


def macro_auc(labels: ArrayLike, scores: ArrayLike) -> Estimate:
    """Mean over the classes of the AUC of `p_class` for that class against all others; error as in `roc_auc`."""
    value, influence = _macro_auc_influence(labels, scores)
    return Estimate(value, _norm(influence))


def macro_auc_difference(labels: ArrayLike, scores_a: ArrayLike, scores_b: ArrayLike) -> Estimate:
    """`macro_auc` of `scores_a` minus that of `scores_b` on the same jets; error as in `auc_difference`."""
    value_a, influence_a = _macro_auc_influence(labels, scores_a)
    value_b, influence_b = _macro_auc_influence(labels, scores_b)
    return Estimate(value_a - value_b, _norm(influence_a - influence_b))


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float | None = None) -> Estimate:
    """Share of jets whose class has the highest score, with the binomial error sqrt(a (1 - a) / jets).

    One-dimensional scores need a `threshold`, from which on a jet is called class 1.
    """
    index, values = _checked(labels, scores)
    if np.ndim(scores) == 2:
        predicted = values.argmax(axis=1)
    elif threshold is None:
        raise ValueError("the accuracy of one-dimensional scores needs a threshold")
    else:
        predicted = values[:, 1] >= threshold
    share = float(np.mean(predicted == index))
    return Estimate(share, math.sqrt(share * (1 - share) / len(index)))


def background_rejection(
    labels: ArrayLike, scores: ArrayLike, signal_efficiency: float, signal: int = 1, background: int | None = None
) -> Estimate:
    r"""Background rejection :math:`1/\varepsilon_B` at a fixed signal efficiency :math:`\varepsilon_S`.

    :math:`\varepsilon_B` is interpolated linearly in :math:`\varepsilon_S` between neighbouring points of the full ROC
    curve, one point per distinct score; where the curve is vertical, the lowest :math:`\varepsilon_B` counts. The error

    .. math:: \sigma^2(\varepsilon_B) = \frac{\varepsilon_B (1 - \varepsilon_B)}{n_B} + \left(
              \frac{d\varepsilon_B}{d\varepsilon_S} \right)^2 \sigma_S^2, \qquad
              \sigma_S^2 = \frac{\varepsilon_S (1 - \varepsilon_S)}{n_S}, \qquad
              \sigma(1/\varepsilon_B) = \sigma(\varepsilon_B) / \varepsilon_B^2

    holds the fluctuation of the background above the cut and that of the cut itself, which the signal jets define
    (Hsieh and Turnbull, Annals of Statistics 24 (1996) 25); the slope is the chord between
    :math:`\varepsilon_S \pm \sigma_S`. The first term alone is too small, by a third at 1/eB = 6 for equally many
    jets of both classes. The error is symmetric and of first order: with fewer than about ten background jets
    above the cut the true distribution is skewed. If none passes, the value and its error are infinite.

    Args:
        labels: Class indices `[jets]`.
        scores: As described at the top of the module.
        signal_efficiency: In (0, 1].
        signal: Class index of the signal.
        background: Class index of the background; needed for more than two classes, and jets of further classes are
            left out. The score is then equivalent to `p_signal / (p_signal + p_background)`.
    """
    if not 0 < signal_efficiency <= 1:
        raise ValueError(f"the signal efficiency should be in (0, 1], found {signal_efficiency}")
    is_signal, score = discriminant(labels, scores, signal, background)
    (eps,), (error,) = background_efficiency(is_signal, score, [signal_efficiency])
    return Estimate(float(1 / eps), float(error / eps**2)) if eps > 0 else Estimate(math.inf, math.inf)


def classification_report(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    signal: str | None = None,
    signal_efficiency: Mapping[str, float] | None = None,
) -> dict[str, Estimate]:
    """Accuracy, AUC and background rejection.

    Two classes: `signal` names the signal, and the rejections are those at signal efficiencies 0.5 and 0.3. More
    classes: the AUC is the macro average, and each class but the first has its rejection of the first, the background,
    at its `signal_efficiency`, 0.5 if it is not named there, as papers on JetClass have it (arXiv 2202.03772).
    One-dimensional scores have no accuracy, as they have no threshold.
    """
    report = {} if np.ndim(scores) == 1 else {"accuracy": accuracy(labels, scores)}
    if len(classes) > 2:
        report["auc"] = macro_auc(labels, scores)
        for index, name in enumerate(classes[1:], start=1):
            at = (signal_efficiency or {}).get(name, DEFAULT_EFFICIENCY)
            report[f"rejection_at_{at}/{name}"] = background_rejection(labels, scores, at, index, background=0)
        return report
    if signal not in classes:
        raise ValueError(f"the signal '{signal}' should be one of the classes {', '.join(classes)}")
    index = classes.index(signal)
    report["auc"] = roc_auc(labels, scores, index)
    return report | {f"rejection_at_{at}": background_rejection(labels, scores, at, index) for at in WORKING_POINTS}


def discriminant(
    labels: ArrayLike, scores: ArrayLike, signal: int = 1, background: int | None = None
) -> tuple[Bools, Floats]:
    """Who is signal, and one score per jet that grows with the likeness to it: logit_signal - logit_background.

    Jets of other classes than these two are left out.
    """
    index, values = _checked(labels, scores)
    if background is None:
        if values.shape[1] != 2:
            raise ValueError(f"scores of {values.shape[1]} classes need the background class to be named")
        background = 1 - signal
    kept = (index == signal) | (index == background)
    is_signal = index[kept] == signal
    if is_signal.all() or not is_signal.any():
        missing = signal if not is_signal.any() else background
        raise ValueError(f"no jet has the label {missing}: efficiencies need jets of both classes")
    if np.ndim(scores) == 1:
        return is_signal, values[kept, 1]
    return is_signal, values[kept, signal] - values[kept, background]


def background_efficiency(is_signal: Bools, score: Floats, signal_efficiency: ArrayLike) -> tuple[Floats, Floats]:
    """Background efficiency and its error at each of the signal efficiencies; see `background_rejection`."""
    fpr, tpr, _ = roc_curve(is_signal, score, drop_intermediate=False)
    eps_s = np.asarray(signal_efficiency, dtype=np.float64)
    spread = np.sqrt(eps_s * (1 - eps_s) / np.count_nonzero(is_signal))
    eps = _first_reaching(tpr, fpr, eps_s)
    high, low = (_first_reaching(tpr, fpr, np.clip(eps_s + shift, 0, 1)) for shift in (spread, -spread))
    # The chord's slope times the spread is half the chord's height.
    return eps, np.hypot(np.sqrt(eps * (1 - eps) / np.count_nonzero(~is_signal)), (high - low) / 2)


def _first_reaching(tpr: Floats, fpr: Floats, wanted: Floats) -> Floats:
    # Rounding lets a wanted 0.3 meet the point 3/10, whatever its last bit.
    tpr, wanted = np.round(tpr, 12), np.round(wanted, 12)
    right = np.searchsorted(tpr, wanted)
    left = np.maximum(right - 1, 0)
    # The point on the left has a smaller signal efficiency, but at zero, where both are the first point.
    step = np.where(right > left, tpr[right] - tpr[left], 1)
    return fpr[left] + (fpr[right] - fpr[left]) * (wanted - tpr[left]) / step


def _auc_influence(is_signal: Bools, score: Floats) -> tuple[float, Floats]:
    # Each jet's pull on the AUC, scaled so that the squares add up to DeLong's variance.
    m, n = np.count_nonzero(is_signal), np.count_nonzero(~is_signal)
    rank = _midranks(score)
    share = np.empty(len(score))
    share[is_signal] = (rank[is_signal] - _midranks(score[is_signal])) / n
    share[~is_signal] = 1 - (rank[~is_signal] - _midranks(score[~is_signal])) / m
    value = float(share[is_signal].mean())
    with np.errstate(invalid="ignore", divide="ignore"):
        influence = (share - value) / np.sqrt(np.where(is_signal, m * (m - 1.0), n * (n - 1.0)))
    return value, influence


def _macro_auc_influence(labels: ArrayLike, scores: ArrayLike) -> tuple[float, Floats]:
    # Each class is the signal once; a jet's pulls on the AUCs add up before they are squared.
    index, logits = _checked(labels, scores)
    classes = logits.shape[1]
    total, influence = 0.0, np.zeros(len(index))
    for k in range(classes):
        if not (index == k).any():
            raise ValueError(f"no jet has the label {k}: a macro AUC needs jets of every class")
        # The log-odds of class k order jets as its probability does, without saturating at 1.
        odds = logits[:, k] - np.logaddexp.reduce(np.delete(logits, k, axis=1), axis=1)
        value, pull = _auc_influence(index == k, odds)
        total += value / classes
        influence += pull / classes
    return total, influence


def _midranks(values: Floats) -> Floats:
    # From 1; equal values share the mean of their ranks.
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


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
    if values.ndim == 1:
        values = np.stack([-values, values], axis=1)
    if index.min() < 0 or index.max() >= values.shape[1]:
        raise ValueError(f"labels should be in 0..{values.shape[1] - 1}, found {index.min()}..{index.max()}")
    return index.astype(np.int64), values
