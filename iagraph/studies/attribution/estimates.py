"""Means over jets with their errors, jets being independent."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from iagraph.metrics import Estimate


def ratio(numerator: Tensor, denominator: Tensor) -> Estimate:
    r"""Ratio of two sums over jets, :math:`r = \sum_j a_j / \sum_j b_j`, with the error of a ratio estimator.

    .. math::
        \sigma_r^2 = \frac{n}{n - 1} \frac{\sum_j (a_j - r b_j)^2}{\left(\sum_j b_j\right)^2}

    (Cochran, Sampling Techniques, 3rd ed., Sec. 2.11), of first order in 1/n.

    Args:
        numerator: shape [jets].
        denominator: shape [jets]; ones for a mean.

    Returns:
        NaN where the denominators add up to zero; the error is NaN with fewer than two jets.
    """
    a, b = numerator.double(), denominator.double()
    total, jets = float(b.sum()), b.numel()
    if total == 0:
        return Estimate(math.nan, math.nan)
    value = float(a.sum()) / total
    if jets < 2:
        return Estimate(value, math.nan)
    spread = float((a - value * b).square().sum()) * jets / (jets - 1)
    return Estimate(value, math.sqrt(spread) / abs(total))


def mean(values: Tensor) -> Estimate:
    """Mean over jets, shape [jets], with its standard error."""
    return ratio(values, torch.ones_like(values))
