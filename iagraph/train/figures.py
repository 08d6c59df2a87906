"""Figures of a training run, as matplotlib ``Figure`` objects independent of pyplot's global state."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from iagraph.metrics import (
    DEFAULT_EFFICIENCY,
    WORKING_POINTS,
    Estimate,
    as_logits,
    background_efficiency,
    background_rejection,
    discriminant,
    roc_auc,
)
from iagraph.plotting import COLOURS, drawable, style


def loss_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Training and validation loss and validation AUC per epoch; a line marks the lowest validation loss.

    Args:
        history: one mapping per epoch with ``epoch``, ``train_loss``, ``val_loss`` and ``val_auc``; missing values are
            not drawn.
    """
    epochs, train, val, auc = (
        np.array([row.get(key, np.nan) for row in history]) for key in ("epoch", "train_loss", "val_loss", "val_auc")
    )
    best = int(np.argmin(np.where(np.isnan(val), np.inf, val)))
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    # Markers show the epochs, and make a single epoch visible.
    marker = {"marker": "o", "markersize": 3 if len(epochs) < 50 else 0}
    top.plot(epochs, train, color=COLOURS[1], linestyle="--", label="training", **marker)
    top.plot(epochs, val, color=COLOURS[0], label="validation", **marker)
    bottom.plot(epochs, auc, color=COLOURS[0], label=f"validation, {auc[best]:.4f} at the line", **marker)
    for axes in (top, bottom):
        axes.axvline(epochs[best], color="0.6", linewidth=1, linestyle=":", zorder=0)
        axes.legend(frameon=False)
        axes.grid(alpha=0.25)
    top.set_ylabel("loss (cross entropy)")
    bottom.set_ylabel("AUC")
    bottom.set_xlabel("epoch")
    bottom.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    bottom.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    return figure


def roc_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], signal: int = 1, weights: ArrayLike | None = None
) -> Figure:
    """Background rejection 1/eps_B against signal efficiency, with bands of one standard error.

    For a score with few distinct values, such as multiplicity, dots mark all possible cuts, and the line interpolates
    as in :func:`~iagraph.metrics.background_rejection`. Nothing is drawn where no background jet passes.

    Args:
        curves: labels and scores as in :mod:`iagraph.metrics`, by their name in the legend.
        signal: class index of the signal.
        weights: weights of the jets, common to all curves, if any.
    """
    # The legend is above the frame, where it hides no curve.
    figure, axes = _roc_frame(5, 4 + 0.4 * len(curves))
    for index, (name, (labels, scores)) in enumerate(curves.items()):
        is_signal, score, w = discriminant(labels, scores, signal, weights=weights)
        points = [background_rejection(labels, scores, at, signal, weights=weights) for at in WORKING_POINTS]
        text = ", ".join(f"{_plus_minus(point)} at {at}" for at, point in zip(WORKING_POINTS, points, strict=True))
        auc = _plus_minus(roc_auc(labels, scores, signal, weights))
        label = f"{drawable(name)}: AUC = {auc}\n$1/\\varepsilon_B$ = {text}"
        colour = _roc_curve(axes, index, is_signal, score, w, label)
        cuts = np.unique(score)
        if len(cuts) < len(score) / 4:
            groups = [(score[group], w[group]) for group in (is_signal, ~is_signal)]
            at_cut = np.array([[np.average(mine >= cut, weights=v) for cut in cuts] for mine, v in groups])
            passing = at_cut[1] > 0
            axes.plot(at_cut[0, passing], 1 / at_cut[1, passing], color=colour, marker=".", markersize=5, linestyle="")
    _random_guess(axes)
    for at in WORKING_POINTS:
        axes.axvline(at, color="0.75", linewidth=0.8, zorder=0)
    figure.legend(loc="outside upper center", fontsize=9, frameon=False)
    return figure


def class_roc_curves(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    signal_efficiency: Mapping[str, float],
    weights: ArrayLike | None = None,
) -> Figure:
    """Rejection of the first class, the background, against the efficiency of each other class.

    Axes are those of :func:`roc_curves`. A circle marks each curve at the signal efficiency quoted in the legend.

    Args:
        labels: class indices ``[jets]``.
        scores: logits or probabilities ``[jets, classes]``.
        classes: class names, more than two.
        signal_efficiency: signal efficiencies to quote, by class name; 0.5 for classes not listed.
        weights: weights of the jets, if any.
    """
    figure, axes = _roc_frame(6, 4.6 + 0.12 * len(classes))
    for index, name in enumerate(classes[1:], start=1):
        at = signal_efficiency.get(name, DEFAULT_EFFICIENCY)
        point = background_rejection(labels, scores, at, index, 0, weights)
        label = f"{drawable(name)}: {_plus_minus(point)} at {at}"
        two = discriminant(labels, scores, index, 0, weights)
        colour = _roc_curve(axes, index - 1, *two, label, 0.12)
        if np.isfinite(point.value):
            axes.plot([at], [point.value], color=colour, marker="o", markerfacecolor="white", zorder=3)
    _random_guess(axes)
    axes.set_ylabel(rf"rejection of {drawable(classes[0])} $1/\varepsilon_B$")
    title = r"$1/\varepsilon_B$ at $\varepsilon_S$"
    figure.legend(loc="outside upper center", fontsize=9, frameon=False, ncols=2, title=title)
    return figure


def _roc_frame(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    # A perfect curve runs along eps_S = 1, inside the frame.
    axes.set(xlim=(0, 1.01), ylim=(1, 20), yscale="log", xticks=np.linspace(0, 1, 11))
    axes.set_xlabel(r"signal efficiency $\varepsilon_S$")
    axes.set_ylabel(r"background rejection $1/\varepsilon_B$")
    return figure, axes


def _random_guess(axes: Axes) -> None:
    guess = np.geomspace(1e-4, 1, 200)
    axes.plot(guess, 1 / guess, color="0.5", linewidth=1, linestyle=":", label="random guess")


def _roc_curve(
    axes: Axes,
    index: int,
    is_signal: NDArray[np.bool_],
    score: NDArray[np.float64],
    weights: NDArray[np.float64],
    label: str,
    alpha: float = 0.2,
) -> str:
    """Draw curve and band in the style of number ``index``, extend the frame to fit, and return the colour."""
    colour, line = style(index).values()
    eps_s = np.linspace(0, 1, 1001)
    eps_b, error = background_efficiency(is_signal, score, weights, eps_s)
    # At eps_S = 1 the curve drops to the corner, where every jet passes.
    eps_s, eps_b, error = (np.append(each, last) for each, last in ((eps_s, 1), (eps_b, 1), (error, 0)))
    seen = eps_b > 0
    highest = float(np.max(1 / eps_b[seen & (eps_b * np.count_nonzero(~is_signal) >= 1)]))
    axes.set_ylim(top=max(axes.get_ylim()[1], 2 * highest))
    axes.plot(eps_s[seen], 1 / eps_b[seen], color=colour, linestyle=line, label=label)
    # Where the error reaches the value, the rejection is unbounded and the band leaves the frame.
    upper = 1 / np.maximum(eps_b - error, 1e-12)
    axes.fill_between(eps_s[seen], 1 / (eps_b + error)[seen], upper[seen], color=colour, alpha=alpha, linewidth=0)
    return colour


def confusion(labels: ArrayLike, scores: ArrayLike, classes: Sequence[str], weights: ArrayLike | None = None) -> Figure:
    """Confusion matrix in percent of each true class: true classes in rows, predicted classes in columns."""
    predicted = np.asarray(scores).argmax(axis=1)
    percent = 100 * confusion_matrix(
        labels, predicted, labels=range(len(classes)), sample_weight=weights, normalize="true"
    )
    side = 2 + 0.42 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    # A single hue from light to dark works with any colour vision, and in greyscale.
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    # White and black have equal contrast between 71 % and 72 %.
    for (row, column), value in np.ndenumerate(percent):
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color="white" if value > 71 else "black")
    places, names = range(len(classes)), list(map(drawable, classes))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    axes.set(xlabel="predicted class", ylabel="true class", title="jets of each true class [%]")
    return figure


def score_histograms(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: Sequence[str],
    signal: int = 1,
    weights: ArrayLike | None = None,
) -> Figure:
    """Distribution of the network's output per class, normalised to one, with Poisson errors.

    Args:
        labels: class indices ``[jets]``.
        scores: logits or probabilities ``[jets, classes]``, shown as the probability of the signal class; or
            ``[jets]``, shown as is.
        classes: class names.
        signal: index of the signal class.
        weights: weights of the jets, if any; errors are then sqrt(sum w^2) per bin.
    """
    index, values = np.asarray(labels), as_logits(scores)
    w = np.ones(len(index)) if weights is None else np.asarray(weights, np.float64)
    text, limits = "score", (float(values.min()), float(values.max()))
    if values.ndim == 2:
        values = np.exp(values[:, signal] - np.logaddexp.reduce(values, axis=1))
        text, limits = f"probability of {drawable(classes[signal])}", (0.0, 1.0)
    # Enough jets per bin to show the shape, and bins no finer than visible.
    smallest = min(np.count_nonzero(index == k) for k in range(len(classes)))
    edges = np.histogram_bin_edges(values, bins=int(np.clip(smallest / 20, 10, 40)), range=limits)
    centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    axes = figure.subplots()
    heights: list[NDArray[np.float64]] = []
    for k, name in enumerate(classes):
        mine = index == k
        counts, squares = (np.histogram(values[mine], edges, weights=each[mine])[0] for each in (w, w**2))
        scale = 1 / (counts.sum() or 1) / width
        (colour, line), full = style(k).values(), counts > 0
        axes.stairs(counts * scale, edges, color=colour, linestyle=line, label=f"{drawable(name)} ({mine.sum()} jets)")
        axes.errorbar(
            centres[full], counts[full] * scale, np.sqrt(squares[full]) * scale, color=colour, linestyle="", linewidth=1
        )
        heights.append(counts[full] * scale)
    every = np.concatenate(heights)
    # A good tagger fills both ends, which hides the middle on a linear scale.
    if every.max() > 10 * np.median(every):
        axes.set(yscale="log", ylim=(every.min() / 3, every.max() * 5))
    else:
        axes.set_ylim(0, every.max() * 1.35)
    axes.set(xlim=(edges[0], edges[-1]), xlabel=text, ylabel="normalised to unit area")
    axes.legend(frameon=False, ncols=2 if len(classes) <= 4 else 3)
    return figure


def _plus_minus(estimate: Estimate) -> str:
    return str(estimate).replace("+-", "±").replace("inf ± inf", "∞")
