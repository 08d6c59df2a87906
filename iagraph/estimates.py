r"""Statistics of a sample of jets, with errors that treat jets, not particles or edges, as independent.

The logit difference of a jet compares its own class with the others,

.. math:: d = z_{own} - \ln \sum_{c \neq own} e^{z_c},

which for two classes is the logit of its own class minus that of the other. Its mean is taken over the jets of each
class, then over classes, so that class sizes do not matter; for two classes, it is half the distance between the mean
scores of the classes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from iagraph.metrics import Estimate, auc_difference, macro_auc, macro_auc_difference, roc_auc

Array = NDArray[np.float64]


def ratio(numerators: Tensor, denominators: Tensor) -> Estimate:
    r"""Ratio of the sums of two quantities of jets, with the error due to their spread from jet to jet.

    .. math:: r = \frac{\sum_k a_k}{\sum_k b_k}, \qquad
              \sigma^2 = \frac{n}{n - 1} \frac{\sum_k (a_k - r b_k)^2}{(\sum_k b_k)^2}

    over :math:`n` jets, the first-order error of a ratio (Cochran, Sampling Techniques, 3rd ed., 1977, ch. 6). With all
    :math:`b_k = 1` it is a mean and its standard error. A fraction of edges has far fewer independent terms than edges.

    Args:
        numerators: :math:`a_k`, shape [jets].
        denominators: :math:`b_k`, shape [jets]; jets where it is zero do not count.

    Returns:
        The ratio, NaN if no jet counts or the denominators sum to zero; its error, NaN if fewer than two jets count.
    """
    counts = denominators != 0
    a, b = numerators[counts].double(), denominators[counts].double()
    number, total = a.numel(), float(b.sum())
    if number == 0 or total == 0:
        return Estimate(math.nan, math.nan)
    value = float(a.sum()) / total
    if number == 1:
        return Estimate(value, math.nan)
    square = float((a - value * b).square().sum()) * number / (number - 1)
    return Estimate(value, math.sqrt(square) / abs(total))


def mean(values: Tensor | Array) -> Estimate:
    """Mean over jets, shape [jets], with its standard error."""
    values = torch.as_tensor(values)
    return ratio(values, torch.ones_like(values))


def jackknife(sums: Tensor, function: Callable[[Tensor], Tensor]) -> Estimate:
    r"""A function of sums over jets, and its error from leaving out one jet at a time.

    .. math:: \sigma^2 = \frac{n - 1}{n} \sum_k (f_{(k)} - \bar f_{(\cdot)})^2

    with :math:`f_{(k)}` without jet k (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982).

    Args:
        sums: contribution of each jet to each sum, shape [jets, sums].
        function: maps sums, shape [..., sums], to values, shape [...].

    Returns:
        The value for all jets; its error, NaN for fewer than two jets or where the function is undefined.
    """
    sums = sums.double()
    total, number = sums.sum(0), sums.size(0)
    value = float(function(total))
    if number < 2:
        return Estimate(value, math.nan)
    return Estimate(value, float(jackknife_error(function(total - sums))))


def jackknife_error(without: Tensor) -> Tensor:
    """Jackknife error, shape [...], of a value from its values without each group in turn, shape [groups, ...]."""
    groups = without.size(0)
    return ((groups - 1) / groups * (without - without.mean(0)).square().sum(0)).sqrt()


@dataclass(frozen=True)
class Truth:
    """The classes of jets, and how well scores tell them apart.

    Attributes:
        labels: class of each jet.
        signal: the signal class if there are two classes; None for more, where the AUC is the macro average.
    """

    labels: NDArray[np.int64]
    signal: int | None

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Truth:
        """The truth for the jets where a mask is true."""
        return Truth(self.labels[chosen], self.signal)

    def half(self) -> NDArray[np.bool_]:
        """Mask of every second jet of each class, shape [jets]."""
        chosen = np.zeros(len(self.labels), dtype=bool)
        for label in np.unique(self.labels):
            chosen[np.flatnonzero(self.labels == label)[::2]] = True
        return chosen

    @property
    def weights(self) -> Array:
        """The weight of each jet in means over classes; they sum to 1."""
        counts = np.bincount(self.labels)
        return 1 / (np.count_nonzero(counts) * counts[self.labels])

    def auc(self, logits: ArrayLike) -> Estimate:
        """The AUC; for more than two classes the macro average."""
        if self.signal is None:
            return macro_auc(self.labels, logits)
        return roc_auc(self.labels, logits, self.signal)

    def auc_change(self, logits: ArrayLike, before: ArrayLike) -> Estimate:
        """Change of the AUC from ``before``, with the error of a difference on the same jets."""
        if self.signal is None:
            return macro_auc_difference(self.labels, logits, before)
        return auc_difference(self.labels, logits, before, self.signal)

    def logit_difference(self, logits: ArrayLike) -> Array:
        """The logit difference of each jet, shape [jets]."""
        rows, values = np.arange(len(self.labels)), np.asarray(logits, dtype=np.float64)
        others = values.copy()
        others[rows, self.labels] = -np.inf
        return values[rows, self.labels] - np.logaddexp.reduce(others, axis=1)

    def mean(self, values: Array) -> Estimate:
        """Mean over jets of each class, then over classes, with its error."""
        return Estimate(float(self.weights @ values), self._error(values))

    def mean_change(self, logits: Array, before: Array) -> Estimate:
        """Change of the mean logit difference from ``before``, with the error of a difference on the same jets."""
        return self.mean(self.logit_difference(logits) - self.logit_difference(before))

    def transfer(self, patched: Array, clean: Array, donor: Array) -> Estimate:
        r"""How far a patch moves the mean logit difference from the clean jets' (0) to their donors' (1).

        .. math:: \frac{\langle d_{clean} - d_{patched} \rangle}{\langle d_{clean} - d_{donor} \rangle}

        Its error is that of a ratio of means. A donor's logit difference, too, compares the clean jet's class with
        the others. NaN if clean jets and donors have the same mean.
        """
        base = self.logit_difference(clean)
        moved, whole = base - self.logit_difference(patched), base - self.logit_difference(donor)
        under = float(self.weights @ whole)
        if under == 0:
            return Estimate(math.nan, math.nan)
        ratio = float(self.weights @ moved) / under
        return Estimate(ratio, self._error(moved - ratio * whole) / abs(under))

    def _error(self, values: Array) -> float:
        """Standard error of :meth:`mean`; NaN if a class has only one jet."""
        present = np.unique(self.labels)
        parts = [values[self.labels == label] for label in present]
        if min(map(len, parts)) < 2:
            return math.nan
        return math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / len(present)


def recovery(auc: Estimate, change: Estimate) -> tuple[Estimate, Estimate]:
    r"""Fraction of an AUC that is left: :math:`(A' - 1/2) / (A - 1/2)`, and :math:`A' / A` as in arXiv 2605.09881.

    The first is NaN if A is at most 1/2. Without any separation left, the second is still 0.5 / A. The error is that of
    the change, with A taken as known.

    Args:
        auc: AUC before, A.
        change: AUC afterwards minus before, A' - A.
    """
    above = auc.value - 0.5
    if above <= 0:
        return Estimate(math.nan, math.nan), Estimate(1 + change.value / auc.value, change.error / auc.value)
    return (
        Estimate(1 + change.value / above, change.error / above),
        Estimate(1 + change.value / auc.value, change.error / auc.value),
    )


@dataclass(frozen=True)
class OverSeeds:
    """A number measured in one run of a model per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean; infinite if one value is."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation; NaN for one seed, and for infinite values."""
        if len(self.values) < 2 or not math.isfinite(self.mean):
            return math.nan
        return statistics.stdev(self.values)

    def __str__(self) -> str:
        if infinite := sum(map(math.isinf, self.values)):
            return f"infinite in {infinite} of {len(self.values)}"
        if len(self.values) == 1:
            return f"{self.mean:.4g} +- -"
        return str(Estimate(self.mean, self.spread))


def mean_over_runs(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of estimates on the same test jets, one per run, each with the error of the finite test set.

    That error is common to all runs, so that its mean is added, in quadrature, to the standard error over runs.
    """
    values = OverSeeds(tuple(each.value for each in estimates))
    of_test_jets = sum(each.error for each in estimates) / len(estimates)
    of_runs = values.spread / math.sqrt(len(estimates)) if len(estimates) > 1 else 0.0
    return Estimate(values.mean, math.hypot(of_test_jets, of_runs))
