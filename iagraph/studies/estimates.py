"""Numbers of a sample of jets with errors that treat jets, not particles or edges, as independent."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from iagraph.metrics import Estimate


def ratio(numerators: Tensor, denominators: Tensor) -> Estimate:
    r"""Ratio of the sums of two quantities of jets, and the error that their spread from jet to jet gives it.

    .. math:: r = \frac{\sum_k a_k}{\sum_k b_k}, \qquad
              \sigma^2 = \frac{n}{n - 1} \frac{\sum_k (a_k - r b_k)^2}{(\sum_k b_k)^2}

    over :math:`n` jets, the first-order error of a ratio (Cochran, Sampling Techniques, 3rd ed., 1977, ch. 6). With all
    :math:`b_k = 1` it is a mean and its standard error. A share of edges has far fewer independent terms than edges.

    Args:
        numerators: :math:`a_k`, shape [jets].
        denominators: :math:`b_k`, shape [jets]; jets with none do not count.

    Returns:
        The ratio, NaN if nothing counts; its error, NaN if fewer than two jets do.
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


def mean(values: Tensor) -> Estimate:
    """Mean over jets, shape [jets], with its standard error."""
    return ratio(values, torch.ones_like(values))


def jackknife(sums: Tensor, function: Callable[[Tensor], Tensor]) -> Estimate:
    r"""A function of sums over jets, and its error from leaving out one jet at a time.

    .. math:: \sigma^2 = \frac{n - 1}{n} \sum_k (f_{(k)} - \bar f_{(\cdot)})^2

    with :math:`f_{(k)}` without jet k (Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982).

    Args:
        sums: what each jet adds to each sum, shape [jets, sums].
        function: of sums, shape [..., sums], to shape [...].

    Returns:
        The function of all jets; its error, NaN of fewer than two jets or where the function is undefined.
    """
    sums = sums.double()
    total, number = sums.sum(0), sums.size(0)
    value = float(function(total))
    if number < 2:
        return Estimate(value, math.nan)
    without = function(total - sums)
    return Estimate(value, float(torch.sqrt((without - without.mean()).square().sum() * (number - 1) / number)))
