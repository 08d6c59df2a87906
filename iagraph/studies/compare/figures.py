"""The figures of a comparison."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from iagraph.plotting import COLOURS, style
from iagraph.studies.compare.measure import Row
from iagraph.studies.figures import GREY, LABELS, MARKERS, REJECTION, decorate, legend_above, log_axis

COSTS: dict[str, Callable[[Row], float]] = {
    "fraction of edges kept,\nmean over the layers": lambda row: row.costs.kept,
    "MFLOP per jet": lambda row: row.flops / 1e6,
    "inference: time per jet [ms]": lambda row: 1e3 * row.costs.seconds,
    "training: whole time [s]": lambda row: row.training.mean,
}
NAME_WIDTH = 30
"""Largest number of characters per line of a model's name."""


def cost_and_performance(rows: Sequence[Row]) -> Figure:
    """A row per model with its AUC, its background rejection at a signal efficiency of 0.5, and its cost.

    Large dots are means over seeds with their spread, small dots below them single seeds. With more than two classes,
    each of which has its own rejection, accuracy is shown instead. Infinite means are written as text.
    """
    names = ["\n".join([*textwrap.wrap(row.model, NAME_WIDTH), f"{_short(row.parameters)} parameters"]) for row in rows]
    lines = max(name.count("\n") + 1 for name in names)
    layout = ConstrainedLayoutEngine(wspace=0.05)
    figure = Figure(figsize=(10.5, 1.3 + (0.2 + 0.16 * lines) * len(rows)), layout=layout)
    quality, quality_2, cost = panels = figure.subplots(1, 3, sharey=True)
    second = REJECTION if REJECTION in rows[0].numbers else "accuracy"
    for axes, key in ((quality, "auc"), (quality_2, second)):
        _performance(axes, rows, key)
        axes.set_xlabel(LABELS.get(key, key))
    _cost(cost, rows)
    for axes in panels:
        for index in range(0, len(rows), 2):
            axes.axhspan(index - 0.5, index + 0.5, color="0.95", linewidth=0, zorder=0)
        axes.grid(axis="x", color="0.85", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "left", "right"]].set_visible(False)
    quality.set_yticks(range(len(rows)), names, parse_math=False)
    quality.set_ylim(len(rows) - 0.5, -0.5)  # the first model on top
    if any(len(row.numbers["auc"].values) > 1 for row in rows):
        figure.supxlabel("large: mean over the seeds with their spread; small: single seeds", fontsize=8, color=GREY)
    return figure


def _performance(axes: Axes, rows: Sequence[Row], key: str) -> None:
    for index, row in enumerate(rows):
        number = row.numbers[key]
        seeds = [value for value in number.values if math.isfinite(value)]
        if math.isfinite(number.mean):
            error = None if math.isnan(number.spread) else number.spread
            axes.errorbar([number.mean], [index], xerr=error, fmt="o", color=COLOURS[0], markersize=7, capsize=3)
        else:
            where = axes.get_yaxis_transform()  # the middle of the panel, in the row
            axes.text(0.5, index, str(number), transform=where, ha="center", va="center", fontsize=8, color=GREY)
        if len(number.values) > 1:
            axes.plot(seeds, [index + 0.28] * len(seeds), "o", color=GREY, markersize=3)
    axes.margins(x=0.08)
    if any(len(line.get_xdata()) for line in axes.get_lines()):  # type: ignore[arg-type]
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.ticklabel_format(axis="x", useOffset=False)
    else:
        axes.set_xticks([])


def _cost(axes: Axes, rows: Sequence[Row]) -> None:
    costs = [row.flops / 1e6 for row in rows]
    axes.plot(costs, range(len(rows)), "o", color=COLOURS[0], markersize=7)
    for index, row in enumerate(rows):
        place: dict[str, Any] = {"xy": (costs[index], index), "xytext": (8, 0), "textcoords": "offset points"}
        axes.annotate(f"{1e3 * row.costs.seconds:.3g} ms", **place, va="center", fontsize=8, color=GREY)
    # At least a factor of four, so that the axis has tick labels and space for the text beside the last point.
    factor = max(4.0, max(costs) / min(costs))
    low, high = min(costs) / factor**0.1, max(costs) * factor**0.1
    high = max(high, low * factor**1.1) * factor**0.4
    axes.set(xscale="log", xlim=(low, high), xlabel="MFLOP per jet\nand time per jet")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def trade_offs(rows: Sequence[Row]) -> Figure:
    """AUC and background rejection against edges kept, operations, and the time of inference and of training.

    Points are means over seeds, bars their spread. With more than two classes, accuracy is shown instead of rejection.
    Models without attention have no edges to keep; infinite means and unrecorded times are left out.
    """
    second = REJECTION if REJECTION in rows[0].numbers else "accuracy"
    figure = Figure(figsize=(12, 7), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    panels = figure.subplots(2, len(COSTS), sharex="col", sharey="row", squeeze=False)
    for line, key in zip(panels, ("auc", second), strict=True):
        line[0].set_ylabel(LABELS.get(key, key))
        for axes, cost in zip(line, COSTS.values(), strict=True):
            for index, row in enumerate(rows):
                number, at = row.numbers[key], cost(row)
                shown = math.isfinite(number.mean) and math.isfinite(at)
                x, y = ([at], [number.mean]) if shown else ([], [])
                error = [number.spread] if shown and math.isfinite(number.spread) else None
                look = {"color": style(index)["color"], "marker": MARKERS[index % len(MARKERS)], "markersize": 6}
                axes.errorbar(x, y, yerr=error, linestyle="none", capsize=2, label=row.model, **look)
            decorate(axes)
            axes.yaxis.set_major_locator(MaxNLocator(6))
    for axes, (label, cost) in zip(panels[1], COSTS.items(), strict=True):
        axes.set_xlabel(label)
        log_axis(axes, [value for value in map(cost, rows) if math.isfinite(value)] or [1.0])
    legend_above(figure, panels[0][0], 4)
    return figure


def _short(number: int) -> str:
    """A number in short form, as in ``52k`` or ``2.1M``."""
    if number < 1000:
        return str(number)
    return f"{number / 1e3:.0f}k" if number < 999_500 else f"{number / 1e6:.1f}M"
