"""What changes between two judgements of the same jets: probabilities, decisions, ranks, AUC and accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from scipy.stats import spearmanr

from iagraph.metrics import Estimate, accuracy, auc_difference, macro_auc, macro_auc_difference, roc_auc
from iagraph.studies.tables import OverSeeds

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

GROUPS = 20
"""Groups of jets that are left out in turn, for the errors of rank correlations (jackknife)."""


class Judged(NamedTuple):
    """Jets and who they are.

    Attributes:
        labels: class of each jet, shape [jets].
        signal: number of the signal class; None for more than two classes.
    """

    labels: Integers
    signal: int | None

    def auc(self, logits: Floats) -> Estimate:
        """AUC of the signal, or the mean over the classes, each against all others."""
        return macro_auc(self.labels, logits) if self.signal is None else roc_auc(self.labels, logits, self.signal)

    def auc_change(self, logits: Floats, before: Floats) -> Estimate:
        """How much the AUC grows, with the error of the same jets judged twice."""
        if self.signal is None:
            return macro_auc_difference(self.labels, logits, before)
        return auc_difference(self.labels, logits, before, self.signal)


def total_variation(one: Floats, other: Floats) -> Floats:
    r"""How far apart two sets of probabilities are, :math:`\frac12 \sum_c |p_c - q_c|`, one minus their overlap.

    For two classes it is the absolute change of the signal probability.

    Args:
        one: logits, shape [..., classes].
        other: logits of the same jets.

    Returns:
        Shape [...].
    """
    distance: Floats = np.abs(softmax(one, axis=-1) - softmax(other, axis=-1)).sum(axis=-1) / 2
    return distance


def flips(one: Floats, other: Floats) -> Floats:
    """1 where the most probable class is another one, otherwise 0; logits of shape [..., classes]."""
    return (one.argmax(axis=-1) != other.argmax(axis=-1)).astype(np.float64)


def mean(values: Floats) -> Estimate:
    """Mean over jets with the error of independent jets; values of shape [jets]."""
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), float(spread / math.sqrt(len(values))))


class Spread(NamedTuple):
    """How much the runs of a group differ on the same jets; errors of all but the first two are of independent jets.

    Attributes:
        auc: AUC of each run.
        accuracy: accuracy of each run.
        deviation: standard deviation over the runs of the probability of the true class, mean over jets. Divided by
            what normal numbers have on average in so few runs (c4), so that groups of different size compare.
        variation: mean total variation between two runs.
        flip_rate: share of jets that two runs classify differently.
        rank_correlation: Spearman's, of the log-odds of a class in two runs, mean over classes.
    """

    auc: OverSeeds
    accuracy: OverSeeds
    deviation: Estimate
    variation: Estimate
    flip_rate: Estimate
    rank_correlation: Estimate


def spread(logits: Floats, jets: Judged) -> Spread:
    """How much runs differ.

    Args:
        logits: shape [runs, jets, classes], at least two runs.
        jets: the jets.

    Raises:
        ValueError: there is but one run.
    """
    runs = len(logits)
    if runs < 2:
        raise ValueError("one run has no spread: give the logits of two or more")
    pairs = list(combinations(logits, 2))
    return Spread(
        OverSeeds(tuple(jets.auc(one).value for one in logits)),
        OverSeeds(tuple(accuracy(jets.labels, one).value for one in logits)),
        mean(deviations(logits, jets.labels)),
        mean(np.mean([total_variation(*pair) for pair in pairs], axis=0)),
        mean(np.mean([flips(*pair) for pair in pairs], axis=0)),
        _jackknife(lambda kept: rank_correlation([one[kept] for one in logits]), len(jets.labels)),
    )


def deviations(logits: Floats, labels: Integers) -> Floats:
    """Standard deviation over runs of the probability of the true class of each jet, without the bias of few runs.

    Args:
        logits: shape [runs, jets, classes].
        labels: shape [jets].
    """
    runs = len(logits)
    true = softmax(logits, axis=-1)[:, np.arange(len(labels)), labels]
    c4 = math.sqrt(2 / (runs - 1)) * math.gamma(runs / 2) / math.gamma((runs - 1) / 2)
    deviation: Floats = true.std(axis=0, ddof=1) / c4
    return deviation


def rank_correlation(logits: Sequence[Floats]) -> float:
    """Spearman's correlation of the log-odds of each class in two runs, mean over classes and pairs of runs.

    Args:
        logits: of each run, shape [jets, classes].
    """
    odds = [_log_odds(one) for one in logits]
    classes = range(odds[0].shape[1])
    found = [spearmanr(one[:, k], other[:, k]).statistic for one, other in combinations(odds, 2) for k in classes]
    return float(np.mean(found))


def _log_odds(logits: Floats) -> Floats:
    others = [logsumexp(np.delete(logits, k, axis=1), axis=1) for k in range(logits.shape[1])]
    return logits - np.stack(others, axis=1)


def _jackknife(statistic: Callable[[NDArray[np.bool_]], float], jets: int) -> Estimate:
    """A number and its error from leaving out every twentieth jet, in turn."""
    group = np.arange(jets) % GROUPS
    left = np.array([statistic(group != number) for number in range(GROUPS)])
    error = math.sqrt((GROUPS - 1) / GROUPS * float(((left - left.mean()) ** 2).sum()))
    return Estimate(statistic(np.ones(jets, dtype=bool)), error)
