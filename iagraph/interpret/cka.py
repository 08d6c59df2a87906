r"""Similarity of layers: linear centred kernel alignment (CKA) for any number of rows in bounded memory.

For activations X and Y with a row per particle or jet and centred columns, linear CKA is

.. math::
    \mathrm{CKA}(X, Y) = \frac{\lVert X^T Y \rVert_F^2}{\lVert X^T X \rVert_F \, \lVert Y^T Y \rVert_F}

(Kornblith, Norouzi, Lee, Hinton, arXiv 1905.00414): 1 for activations that agree up to a rotation and a scale. This
plain estimator is biased upwards if there are few rows compared with the width. The second estimator,

.. math::
    \frac{\sum_b w_b \mathrm{HSIC}_1(K_b, L_b)}{\sqrt{\sum_b w_b \mathrm{HSIC}_1(K_b, K_b)}
    \sqrt{\sum_b w_b \mathrm{HSIC}_1(L_b, L_b)}},

averages an unbiased estimator over minibatches b (Nguyen, Raghu, Kornblith, arXiv 2010.15327; HSIC_1: Song et al.,
JMLR 13 (2012) 1393). Here the weight of a batch is its number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from iagraph.estimates import jackknife_error

FOLDS = 10
"""Number of groups of batches in the jackknife."""

SMALLEST_BATCH = 4
"""Smallest number of rows for which HSIC_1 is defined."""


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Plain linear CKA of activations that fit in memory.

    Args:
        x: shape [rows, width].
        y: activations of the same rows, shape [rows, other width].

    Returns:
        A number in [0, 1]; NaN if all rows of x, or all of y, are equal.
    """
    x, y = (each.double() - each.double().mean(0) for each in (x, y))
    norms = (x.t() @ x).norm() * (y.t() @ y).norm()
    return float((x.t() @ y).square().sum() / norms)


def unbiased_hsic(views: Sequence[Tensor]) -> Tensor:
    r"""Unbiased estimator :math:`\mathrm{HSIC}_1` for each pair of views (layers) with linear kernels.

    With :math:`\tilde K = X X^T` without its diagonal, and n rows,

    .. math::
        \mathrm{HSIC}_1 = \frac{1}{n (n - 3)} \left[ \operatorname{tr} \tilde K \tilde L + \frac{1^T \tilde K 1 \,
        1^T \tilde L 1}{(n - 1)(n - 2)} - \frac{2}{n - 2} 1^T \tilde K \tilde L 1 \right],

    computed without an n x n matrix.

    Args:
        views: activations of the same rows, at least four, each of shape [rows, width].

    Returns:
        Shape [views, views].
    """
    # A shift of all rows changes nothing; centring reduces cancellation.
    centred = [view.double() - view.double().mean(0) for view in views]
    n = centred[0].size(0)
    products = _block_norms(torch.cat(centred, 1).t() @ torch.cat(centred, 1), [view.size(1) for view in centred])
    diagonal = torch.stack([view.square().sum(1) for view in centred])  # [views, rows]
    row_sums = -diagonal + torch.stack([view @ view.sum(0) for view in centred])
    total = row_sums.sum(1)
    trace = products - diagonal @ diagonal.t()
    between = total.outer(total) / ((n - 1) * (n - 2)) - 2 / (n - 2) * row_sums @ row_sums.t()
    return (trace + between) / (n * (n - 3))


class LayerSimilarity:
    """Linear CKA of all pairs of views (layers), plain and unbiased, accumulated over batches in bounded memory.

    Errors: jackknife over up to ten groups of batches. No two batches may share a jet, or the errors are too small.

    Args:
        widths: the width of each view.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths, width = list(widths), sum(widths)
        self.batches = 0
        self._origin: Tensor | None = None
        self.rows = torch.zeros(FOLDS, dtype=torch.float64)
        self._sums = torch.zeros(FOLDS, width, dtype=torch.float64)
        self._products = torch.zeros(FOLDS, width, width, dtype=torch.float64)
        self._weights = torch.zeros(FOLDS, dtype=torch.float64)
        self._hsic = torch.zeros(FOLDS, len(widths), len(widths), dtype=torch.float64)

    def add(self, views: Sequence[Tensor]) -> None:
        """Add a batch: activations of the same rows, one tensor of shape [rows, width] per view.

        A batch of fewer than four rows counts for the plain estimator only.
        """
        fold, self.batches = self.batches % FOLDS, self.batches + 1
        joined = torch.cat([view.double().cpu() for view in views], 1)
        rows = joined.size(0)
        if not rows:
            return
        # Relative to the first row, constant activations are exactly zero, and others lose fewer digits in sums.
        self._origin = joined[0] if self._origin is None else self._origin
        joined = joined - self._origin
        self.rows[fold] += rows
        self._sums[fold] += joined.sum(0)
        self._products[fold] += joined.t() @ joined
        if rows >= SMALLEST_BATCH:
            self._weights[fold] += rows
            self._hsic[fold] += rows * unbiased_hsic(joined.split(self.widths, 1))

    def plain(self) -> tuple[Tensor, Tensor]:
        """Plain linear CKA of all rows, and its error; shape [views, views] each. NaN for constant activations."""
        return self._with_error(self._plain)

    def unbiased(self) -> tuple[Tensor, Tensor]:
        """CKA from the unbiased minibatch estimator, and its error; shape [views, views] each.

        It may lie slightly below 0 or above 1. NaN if the estimate under a square root is not positive.
        """
        return self._with_error(self._unbiased)

    def _plain(self, folds: Tensor) -> Tensor:
        rows, sums, products = (each[folds].sum(0) for each in (self.rows, self._sums, self._products))
        return _normalized(_block_norms(products - sums.outer(sums) / rows, self.widths))

    def _unbiased(self, folds: Tensor) -> Tensor:
        return _normalized(self._hsic[folds].sum(0) / self._weights[folds].sum())

    def _with_error(self, estimate: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        filled = self.rows.nonzero().squeeze(1)
        value = estimate(filled)
        groups = len(filled)
        if groups < 2:
            return value, torch.full_like(value, math.nan)
        without = torch.stack([estimate(filled[filled != fold]) for fold in filled])
        return value, jackknife_error(without)


def _block_norms(products: Tensor, widths: Sequence[int]) -> Tensor:
    """Squared norms of the blocks of a square matrix, shape [views, views]."""
    rows = [row.split(list(widths), 1) for row in products.split(list(widths), 0)]
    return torch.stack([torch.stack([block.square().sum() for block in row]) for row in rows])


def _normalized(similarity: Tensor) -> Tensor:
    scale = similarity.diagonal().sqrt()  # NaN if negative
    cka = similarity / scale.outer(scale)
    cka.diagonal().copy_(scale / scale)  # exactly one
    return cka
