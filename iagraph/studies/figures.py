"""The figure of a comparison. It returns a matplotlib `Figure` and leaves pyplot's global state alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import offset_copy

from iagraph.plotting import COLOURS
from iagraph.studies.tables import Row

MARKERS = "osD^vP*X"
REJECTION = "rejection_at_0.5"


def cost_and_performance(rows: Sequence[Row]) -> Figure:
    """AUC, and background rejection at a signal efficiency of 0.5, against the operations per jet.

    A large marker is the mean over the seeds with their spread, a small dot to its left a single seed. More than two
    classes have a rejection each, and show their accuracy instead. What is infinite is not drawn, and named.

    Args:
        rows: The models, as :func:`iagraph.studies.tables.table` gives them.
    """
    second = REJECTION if REJECTION in rows[0].numbers else "accuracy"
    labels = {"auc": "AUC", REJECTION: r"background rejection $1/\varepsilon_B$ at $\varepsilon_S = 0.5$"}
    figure = Figure(figsize=(10.5, max(4.0, 1.2 + 0.3 * len(rows))), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, key in zip(panels, ("auc", second), strict=True):
        _panel(figure, axes, rows, key)
        axes.set(xlabel="MFLOP per jet", ylabel=labels.get(key, key))
    # Names beside the points would cover one another: some models cost nearly the same.
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside right upper", frameon=False, title="model (parameters)", alignment="left"
    )
    return figure


def _panel(figure: Figure, axes: Axes, rows: Sequence[Row], key: str) -> None:
    hidden = []
    beside = offset_copy(axes.transData, figure, x=-8, units="points")  # to the left
    for index, row in enumerate(rows):
        number, cost = row.numbers[key], row.flops / 1e6
        # Where the colours are used up, the markers still tell models apart.
        look: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "linestyle": ""}
        mean = number.mean if math.isfinite(number.mean) else math.nan
        error = None if math.isnan(number.spread) else number.spread
        label, marker = f"{row.model} ({_short(row.parameters)})", MARKERS[index % len(MARKERS)]
        axes.errorbar([cost], [mean], error, **look, marker=marker, markersize=8, capsize=3, label=label)
        if math.isnan(mean):
            hidden.append(row.model)
        if len(number.values) > 1:
            seeds = [value for value in number.values if math.isfinite(value)]
            axes.plot([cost] * len(seeds), seeds, **look, marker="o", markersize=3, transform=beside)
    if hidden:
        text = f"infinite, not shown: {', '.join(hidden)}"
        axes.text(0.5, 0.02, text, transform=axes.transAxes, ha="center", fontsize=8, color="0.3")
    costs = np.array([row.flops / 1e6 for row in rows])
    # The axis spans a factor of four or more, so that it has numbers to read, and room beside the outermost points.
    room = max(1.35, 2 * math.sqrt(costs.min() / costs.max()))
    axes.set(xscale="log", xlim=(costs.min() / room, costs.max() * room))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)


def _short(number: int) -> str:
    """As in `52k` or `2.1M`."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:.1f}M"
