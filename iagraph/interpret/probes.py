"""Linear probes: what a linear map can predict from the vectors of jets, on held-out jets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from iagraph.estimates import Array
from iagraph.metrics import Estimate

FOLDS = 5
SEED = 1
RESAMPLINGS = 500
ALPHAS = tuple(10.0**power for power in range(-2, 6))
FEWEST = 20
"""Minimum number of jets to fit a probe, and to test it."""


def class_probe(vectors: Array, labels: NDArray[np.int64]) -> Array:
    """Cross-validated scores of a logistic regression, shape [jets] for two classes, else [jets, classes].

    Args:
        vectors: shape [jets, width]; standardised within each fold.
        labels: class of each jet, with at least :data:`FOLDS` jets per class.
    """
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores: Array = cross_val_predict(probe, vectors, labels, cv=folds, method="decision_function")
    return scores


class Regression(NamedTuple):
    """How well a linear map predicts an observable.

    Attributes:
        r2: held-out R^2 with bootstrap error; at most 1, negative if worse than predicting the mean; NaN for too few
            jets, a constant observable or control, or a control that determines the observable linearly.
        jets: number of held-out jets.
    """

    r2: Estimate
    jets: int


def regression_probe(vectors: Array, target: Array, control: Array | None = None) -> Regression:
    r"""Held-out :math:`R^2 = 1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2` of a ridge regression.

    The regression is fitted to a random half of the jets, with the ridge strength chosen by leave-one-out errors, and
    tested on the other half. The error is the standard deviation over bootstrap samples of the test half, without
    refitting.

    Args:
        vectors: shape [jets, width].
        target: the observable, shape [jets]; jets where it or the control is not finite are excluded.
        control: an observable to regress out of the target first (arXiv 2605.09881), by a line fitted to the
            half used for fitting; shape [jets].
    """
    used = np.isfinite(target) if control is None else np.isfinite(target) & np.isfinite(control)
    half = np.random.default_rng(SEED).permutation(len(target)) % 2 == 0
    fit, test = used & half, used & ~half
    number = int(test.sum())
    if min(number, int(fit.sum())) < FEWEST or _constant(target[fit]) or _constant(target[test]):
        return Regression(Estimate(math.nan, math.nan), number)
    y = target.copy()
    if control is not None:
        if _constant(control[fit]):
            return Regression(Estimate(math.nan, math.nan), number)
        y[used] -= np.polynomial.Polynomial.fit(control[fit], target[fit], 1)(control[used])
        if y[test].std() < 1e-9 * target[test].std():  # the control is the target
            return Regression(Estimate(math.nan, math.nan), number)
    unit = y[fit].std()
    probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS)).fit(vectors[fit], y[fit] / unit)
    return Regression(_r2(y[test] / unit, probe.predict(vectors[test])), number)


def regression_probes(
    vectors: Array, observables: Mapping[str, Array], controls: Mapping[str, Array]
) -> dict[tuple[str, str], Regression]:
    """Probes by (observable, control): ``none`` regresses out nothing, and no observable is its own control."""
    found = {}
    for name, target in observables.items():
        found[name, "none"] = regression_probe(vectors, target)
        for control, values in controls.items():
            if control != name:
                found[name, control] = regression_probe(vectors, target, values)
    return found


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max(initial=0))


def _r2(y: Array, predicted: Array) -> Estimate:
    counts = np.random.default_rng(SEED).multinomial(len(y), np.full(len(y), 1 / len(y)), RESAMPLINGS)
    samples = np.vstack([np.ones((1, len(y))), counts])
    total = samples.sum(1)
    residual = samples @ (y - predicted) ** 2
    spread = samples @ y**2 - (samples @ y) ** 2 / total
    value, *others = 1 - residual / spread
    return Estimate(float(value), float(np.std(others, ddof=1)))
