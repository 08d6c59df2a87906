r"""Numbers for what a change does to the logits of jets, with errors that take jets as independent.

The logit difference of a jet is that of its own class against the others,

.. math:: d = z_{own} - \ln \sum_{c \neq own} e^{z_c},

of two classes the logit of its own minus that of the other. Its mean is taken over the jets of each class, then over
classes, so that the shares of classes do not count: half the distance between the classes' mean scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iagraph.metrics import Estimate, auc_difference, macro_auc, macro_auc_difference, roc_auc

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The classes of jets, and how models are judged on them.

    Attributes:
        labels: class of each jet.
        signal: the signal of two classes; None of more, where the AUC is the macro average.
    """

    labels: NDArray[np.int64]
    signal: int | None

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Truth:
        """The same of some of the jets."""
        return Truth(self.labels[chosen], self.signal)

    def half(self) -> NDArray[np.bool_]:
        """Every second jet of each class, shape [jets]."""
        chosen = np.zeros(len(self.labels), dtype=bool)
        for label in np.unique(self.labels):
            chosen[np.flatnonzero(self.labels == label)[::2]] = True
        return chosen

    @property
    def weights(self) -> Array:
        """The weight of each jet in means over classes; they sum to 1."""
        counts = np.bincount(self.labels)
        return 1 / (np.count_nonzero(counts) * counts[self.labels])

    def auc(self, logits: Array) -> Estimate:
        """The AUC, of more than two classes the macro average."""
        if self.signal is None:
            return macro_auc(self.labels, logits)
        return roc_auc(self.labels, logits, self.signal)

    def auc_change(self, logits: Array, before: Array) -> Estimate:
        """The AUC minus that before, with the error of the difference on the same jets."""
        if self.signal is None:
            return macro_auc_difference(self.labels, logits, before)
        return auc_difference(self.labels, logits, before, self.signal)

    def logit_difference(self, logits: Array) -> Array:
        """The logit difference of each jet, shape [jets]."""
        rows, values = np.arange(len(self.labels)), np.asarray(logits, dtype=np.float64)
        others = values.copy()
        others[rows, self.labels] = -np.inf
        return values[rows, self.labels] - np.logaddexp.reduce(others, axis=1)

    def mean(self, values: Array) -> Estimate:
        """Mean over jets of each class, then over classes, with its error."""
        return Estimate(float(self.weights @ values), self._error(values))

    def mean_change(self, logits: Array, before: Array) -> Estimate:
        """Mean logit difference minus that before, with the error of the difference on the same jets."""
        return self.mean(self.logit_difference(logits) - self.logit_difference(before))

    def transfer(self, patched: Array, clean: Array, donor: Array) -> Estimate:
        r"""The share of the way from the clean logits to the donors' that a patch goes.

        .. math:: \frac{\langle d_{clean} - d_{patched} \rangle}{\langle d_{clean} - d_{donor} \rangle}

        Its error is that of a ratio of means. The donors' logits, too, are those of the clean jet's class against the
        others. NaN where clean jets and donors do not differ.
        """
        base = self.logit_difference(clean)
        moved, whole = base - self.logit_difference(patched), base - self.logit_difference(donor)
        under = float(self.weights @ whole)
        if under == 0:
            return Estimate(math.nan, math.nan)
        ratio = float(self.weights @ moved) / under
        return Estimate(ratio, self._error(moved - ratio * whole) / abs(under))

    def _error(self, values: Array) -> float:
        """Standard error of the mean; NaN where a class has one jet only."""
        present = np.unique(self.labels)
        parts = [values[self.labels == label] for label in present]
        if min(map(len, parts)) < 2:
            return math.nan
        return math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts)) / len(present)


def recovery(auc: Estimate, change: Estimate) -> tuple[Estimate, Estimate]:
    r"""How much of an AUC is left: :math:`(A' - 1/2) / (A - 1/2)`, and :math:`A' / A` as in arXiv 2605.09881.

    The second is 0.5 / A at least where nothing is left. The error is that of the change, with A taken as known.

    Args:
        auc: before.
        change: AUC afterwards minus before.
    """
    above = auc.value - 0.5
    if above <= 0:
        return Estimate(math.nan, math.nan), Estimate(1 + change.value / auc.value, change.error / auc.value)
    return (
        Estimate(1 + change.value / above, change.error / above),
        Estimate(1 + change.value / auc.value, change.error / auc.value),
    )
