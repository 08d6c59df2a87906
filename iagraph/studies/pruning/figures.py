"""The figures of a study of pruning."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from iagraph.interpret.edges import CONTROLS, SHOWN, KeptEdges
from iagraph.nn.pruning import RULES
from iagraph.plotting import COLOURS
from iagraph.studies.figures import FEATURE_LABELS, GREY, LABELS, MARKERS, REJECTION, decorate, legend_above, log_axis
from iagraph.studies.pruning.measure import Row
from iagraph.studies.pruning.rules import AS_TRAINED, UNPRUNED, retrained

ALL_EDGES = {UNPRUNED: "-", retrained(UNPRUNED): ":"}
"""Models without pruning and their line styles."""

Style = dict[str, Any]
COSTS: dict[str, Callable[[Row], float]] = {
    "fraction of edges kept,\nmean over the layers": lambda row: row.mean_kept,
    "MFLOP per jet": lambda row: row.flops / 1e6,
    "time per jet [ms]": lambda row: 1e3 * row.seconds,
}
BINS = 60


def performance_against_cost(rows: Sequence[Row]) -> Figure:
    """AUC and background rejection against edges kept, operations and time; a line per rule and control.

    Lines join points in order of strength. A model without pruning is a horizontal line with a circle at its own cost.
    Error bars of the AUC are those of the difference from the unpruned model on the same jets; other bars and the band
    are those of the value itself. With more than two classes, each of which has its own rejection, accuracy is shown
    instead. Infinite values are not drawn.

    Args:
        rows: results, the unpruned model first.
    """
    second = REJECTION if REJECTION in rows[0].report else "accuracy"
    figure = Figure(figsize=(11, 7.2), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    panels = figure.subplots(2, 3, sharex="col", sharey="row")
    families = dict.fromkeys(row.family for row in rows)
    for line, key in zip(panels, ("auc", second), strict=True):
        line[0].set_ylabel(LABELS.get(key, key))
        for axes, cost in zip(line, COSTS.values(), strict=True):
            for family in families:
                mine = [row for row in rows if row.family == family]
                if family in ALL_EDGES:
                    _level(axes, mine[0], key, cost)
                else:
                    _line(axes, mine, key, cost)
            decorate(axes)
            axes.yaxis.set_major_locator(MaxNLocator(6))
    for axes, (label, cost) in zip(panels[1], COSTS.items(), strict=True):
        axes.set_xlabel(label)
        log_axis(axes, [cost(row) for row in rows])
    legend_above(figure, panels[0][0], 5)
    return figure


def kept_edge_distributions(found: KeptEdges, title: str) -> Figure:
    """Features of all, kept and dropped edges between different particles, after the first and after the last layer.

    Each distribution has unit area. The first bin includes lower values.
    """
    figure = Figure(figsize=(11, 6), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    panels = figure.subplots(2, len(SHOWN), sharex="col")
    for line, kept, layer in zip(panels, found.kept.numpy(), ("first layer", "last layer"), strict=True):
        groups = (("all", np.ones_like(kept)), ("kept", kept), ("dropped", ~kept))
        for axes, name, values in zip(line, SHOWN, found.features.numpy(), strict=True):
            edges = _bins(values)
            for (group, chosen), style in zip(groups, _GROUP_STYLES, strict=True):
                heights, _ = np.histogram(np.clip(values[chosen], edges[0], edges[-1]), edges)
                density = heights / max(1, heights.sum()) / np.diff(edges)
                axes.stairs(density, edges, label=f"{group}" if chosen.any() else f"{group} (none)", **style)
            decorate(axes)
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.set_xlim(edges[0], edges[-1])
            axes.set_ylim(bottom=0)
            if layer == "last layer":
                axes.set_xlabel(FEATURE_LABELS[name])
        fraction = kept.mean() if kept.size else math.nan
        line[0].set_ylabel(f"{layer}: {100 * fraction:.3g} % kept\ndensity")
        line[0].legend(frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


_GROUP_STYLES: tuple[Style, ...] = (
    {"color": "0.8", "fill": True},
    {"color": COLOURS[0], "linewidth": 1.6},
    {"color": COLOURS[1], "linewidth": 1.6, "linestyle": "--"},
)


def _bins(values: np.ndarray) -> np.ndarray:
    """Bin edges from the 0.1 % quantile to the maximum; the minimum may be the far-off floor for logarithms of zero."""
    low, high = (np.quantile(values, 0.001), values.max()) if values.size else (0.0, 1.0)
    return np.linspace(low, max(high, low + 1e-3), BINS + 1)


def _style(family: str) -> Style:
    """Solid lines for rules, dashed lines for controls, and dotted lines in the colour of the rule for retraining."""
    names = [*RULES, *CONTROLS]
    if family == AS_TRAINED:
        return {"color": "0.3", "marker": "*", "markersize": 11, "linestyle": ""}
    index = next(i for i, name in enumerate(names) if family in (name, retrained(name)))
    style: Style = {"color": [*COLOURS, GREY][index], "marker": MARKERS[index], "markersize": 5.5, "linewidth": 1.4}
    if family in CONTROLS:
        return style | {"linestyle": "--", "markerfacecolor": "white"}
    return style if family in RULES else style | {"linestyle": ":", "markerfacecolor": "white"}


def _level(axes: Axes, row: Row, key: str, cost: Callable[[Row], float]) -> None:
    value, error = row.report[key]
    if not math.isfinite(value):
        return
    if row.family == UNPRUNED and key != "auc" and math.isfinite(error):
        axes.axhspan(value - error, value + error, color="0.93", linewidth=0, zorder=0)
    axes.axhline(value, color="black", linewidth=1, linestyle=ALL_EDGES[row.family], zorder=1, label=row.family)
    axes.plot([cost(row)], [value], "o", color="black", markersize=8, markerfacecolor="none")


def _line(axes: Axes, rows: Sequence[Row], key: str, cost: Callable[[Row], float]) -> None:
    points = []
    for row in sorted(rows, key=lambda row: row.strength or 0):
        if math.isfinite(value := row.report[key].value):
            error = row.difference if key == "auc" else row.report[key]
            points.append((cost(row), value, 0.0 if error is None else error.error))
    if not points:
        return
    x, y, bars = zip(*points, strict=True)
    style = _style(rows[0].family)
    axes.plot(x, y, label=rows[0].family, **style)
    axes.errorbar(x, y, yerr=bars, fmt="none", ecolor=style["color"], elinewidth=0.8, alpha=0.45)
