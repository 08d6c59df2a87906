"""The figures of a study of similarity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from iagraph.plotting import style
from iagraph.studies.figures import decorate
from iagraph.studies.similarity.measure import BetaHistory

Values = NDArray[np.float64]

LIMIT = 0.995
"""Fraction of the values of maps within the colour scale; the rest take the colour of its end."""

WEIGHT = r"attention $\alpha_{ij}$"


def map_panels(maps: Tensor, titles: Sequence[str], signed: bool, title: str, jets: Tensor | None = None) -> Figure:
    """A panel per attention map with a common colour scale, diverging and centred at 0 if signed.

    Args:
        maps: shape [maps, ranks, ranks], target before source; NaN is white.
        titles: title of each map.
        signed: whether weights can be negative.
        title: title of the figure.
        jets: number of jets with both ranks, shape [ranks, ranks], for an extra panel; None to omit it.
    """
    number = len(titles) + (jets is not None)
    columns = number if number <= 5 else math.ceil(math.sqrt(number))
    rows = math.ceil(number / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    figure = Figure(figsize=(max(2.35 * columns + 1.1, 5), 2.3 * rows + 0.9), layout=layout)
    panels = figure.subplots(rows, columns, squeeze=False)
    values = maps.double().numpy()
    size = np.abs(values[np.isfinite(values)])
    limit = float(np.quantile(size, LIMIT)) if size.size and size.max() > 0 else 1.0
    limit = limit or float(size.max())
    scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {"cmap": "Blues", "vmin": 0, "vmax": limit}
    ranks = values.shape[-1]
    drawn = list(panels.flat[: len(titles)])
    for axes, image, name in zip(drawn, values, titles, strict=True):
        picture = axes.imshow(image, extent=_extent(ranks), interpolation="nearest", **scale)
        axes.set_title(name, fontsize=9)
    beyond = bool(size.size and size.max() > limit)
    extend = ("both" if signed else "max") if beyond else "neither"
    figure.colorbar(picture, ax=drawn, label=WEIGHT, extend=extend, shrink=0.9, aspect=30)
    if jets is not None:
        _jets_panel(panels.flat[len(titles)], jets)
        drawn.append(panels.flat[len(titles)])
    for axes in panels.flat[number:]:
        axes.remove()
    for place, axes in enumerate(panels.flat[: len(titles)]):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, prune="lower"))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, prune="lower"))
        axes.tick_params(labelsize=8)
        if place % columns == 0:
            axes.set_ylabel("target $i$, rank in $p_T$", fontsize=9)
        if place + columns >= len(titles):
            axes.set_xlabel("source $j$, rank in $p_T$", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _extent(ranks: int) -> tuple[float, float, float, float]:
    return (0.5, ranks + 0.5, ranks + 0.5, 0.5)


def _jets_panel(axes: Axes, jets: Tensor) -> None:
    counts = jets.diagonal().numpy()
    axes.stairs(counts, np.arange(len(counts) + 1) + 0.5, color="0.35", fill=True)
    axes.set_title("jets that have the rank", fontsize=9)
    axes.set_xlim(0.5, len(counts) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.set_xlabel("rank in $p_T$", fontsize=9)


def similarity_panels(matrices: Mapping[str, tuple[Tensor, Tensor]], rows: str, columns: str, title: str) -> Figure:
    """Matrices of linear CKA side by side, each value with its error below.

    Args:
        matrices: values and errors by title, shape [layers, other layers] each.
        rows: label of the rows.
        columns: label of the columns.
        title: title of the figure.
    """
    height, width = next(iter(matrices.values()))[0].shape
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05)
    size = 0.58 if max(height, width) > 6 else 0.75
    figure = Figure(figsize=(len(matrices) * (size * width + 1.0) + 1, size * height + 1.5), layout=layout)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    for axes, (name, (values, errors)) in zip(panels, matrices.items(), strict=True):
        picture = axes.imshow(values.numpy(), cmap="viridis", vmin=0, vmax=1)
        for i in range(height):
            for j in range(width):
                _write(axes, float(values[i, j]), float(errors[i, j]), (j, i))
        axes.set_xticks(range(width), _layers(width))
        axes.set_yticks(range(height), _layers(height))
        axes.set_xlabel(columns)
        axes.set_title(name, fontsize=9)
    panels[0].set_ylabel(rows)
    figure.colorbar(picture, ax=list(panels), label="linear CKA", shrink=0.9)
    figure.suptitle(title, fontsize=10)
    return figure


def _layers(number: int) -> list[str]:
    return ["enc.", *map(str, range(1, number))]


def _write(axes: Axes, value: float, error: float, place: tuple[int, int]) -> None:
    if not math.isfinite(value):
        return
    digits = 3 if error >= 0.0005 else 4
    text = f"{value:.2f}" + (f"\n±{error:.{digits}f}".replace("0.", ".") if error > 0 else "")
    colour = "black" if value > 0.5 else "white"
    axes.text(*place, text, ha="center", va="center", fontsize=7, color=colour, linespacing=1.1)


def beta_figure(
    histories: Mapping[str, BetaHistory], starts: Mapping[str, Sequence[float] | None], kept: Mapping[str, int | None]
) -> Figure:
    """Beta of each layer against the epoch, a panel per run; rings mark the epoch whose weights it kept.

    Args:
        histories: histories by name of the run.
        starts: beta of each layer before training; None if unknown.
        kept: the epoch whose weights the model has; None if unknown.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05)
    figure = Figure(figsize=(3.1 * len(histories) + 1.6, 3.4), layout=layout)
    panels = figure.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    for axes, (name, history) in zip(panels, histories.items(), strict=True):
        begins = starts[name]
        for layer, values in enumerate(history.layers.values()):
            epochs, points = list(history.epochs), list(values)
            if begins is not None:
                epochs, points = [0, *epochs], [begins[layer], *points]
            axes.plot(epochs, points, marker=".", label=f"layer {layer + 1}", **style(layer))
            if (epoch := kept[name]) is not None:
                at = values[history.epochs.index(epoch)]
                axes.plot([epoch], [at], "o", markersize=9, markerfacecolor="none", color=style(layer)["color"])
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        decorate(axes)
    panels[0].set_ylabel(r"$\beta$")
    largest = max(histories, key=lambda name: len(histories[name].layers))
    handles, names = panels[list(histories).index(largest)].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)
    return figure
