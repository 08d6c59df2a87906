"""The figures of the study of mechanisms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iagraph.estimates import Array
from iagraph.metrics import Estimate
from iagraph.plotting import COLOURS
from iagraph.studies.figures import decorate, marked


def head_maps(panels: Mapping[str, Array], names: Sequence[str], label: str) -> Figure:
    """Maps of values per head, layers from top to bottom; panels share a colour scale centred at zero.

    Args:
        panels: values by panel title, shape [layers, heads]; NaN where a layer has no such head.
        names: names of the layers.
        label: label of the colour scale.
    """
    rows, columns = next(iter(panels.values())).shape
    figure = Figure(
        figsize=(1.7 + len(panels) * max(0.36 * columns, 2.6), max(1.3 + 0.4 * rows, 3.2)), layout="constrained"
    )
    largest = max(float(np.nanmax(np.abs(values))) for values in panels.values()) or 1.0
    axes_of_panels = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, values) in zip(axes_of_panels, panels.items(), strict=True):
        axes.set_facecolor("0.85")
        image = axes.imshow(values, cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto")
        axes.set_xticks(range(columns), [str(head + 1) for head in range(columns)], fontsize=8)
        axes.set_yticks(range(rows), names if axes is axes_of_panels[0] else [""] * rows, fontsize=9)
        axes.set(xlabel="head", title=title)
        axes.title.set_fontsize(10)
        _small_cells(axes, rows, columns)
    axes_of_panels[0].set_ylabel("layer")
    figure.colorbar(image, ax=axes_of_panels, label=label, pad=0.02)
    return figure


def heads_kept(curves: Mapping[str, Sequence[tuple[int, Estimate]]], full: Estimate) -> Figure:
    """AUC against the number of heads kept, a line per order, with errors of the difference from the full model."""
    figure = Figure(figsize=(6.4, 4.3), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in enumerate(curves.items()):
        kept, estimates = zip(*points, strict=True)
        values, errors = zip(*estimates, strict=True)
        axes.errorbar(kept, values, errors, label=name, markersize=5, capsize=2, **marked(place))
    axes.axhline(full.value, color="black", linewidth=1, label="full model")
    axes.axhline(0.5 + 0.973 * (full.value - 0.5), color="0.5", linewidth=1, linestyle=":", label="97.3 % of AUC - 0.5")
    axes.set(xscale="symlog", xlabel="heads kept", ylabel="AUC")
    axes.set_xlim(left=-0.3)
    ticks = sorted({number for points in curves.values() for number, _ in points})
    shown = [number for number in ticks if number in (0, 1, 2, 4, 8, 16, 32, 64, 128, ticks[-1])]
    axes.set_xticks(shown, [str(number) for number in shown])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    decorate(axes)
    return figure


def feature_bars(changes: Mapping[str, Mapping[str, Mapping[str, Estimate]]]) -> Figure:
    """Bars of changes, variants side by side; keys of ``changes``: panel label, variant and pair feature."""
    features = list(next(iter(next(iter(changes.values())).values())))
    figure = Figure(figsize=(10, 1.6 + 0.45 * len(features)), layout="constrained")
    for number, (axes, (label, variants)) in enumerate(
        zip(figure.subplots(1, len(changes), sharey=True), changes.items(), strict=True)
    ):
        height = 0.8 / len(variants)
        for place, (variant, values) in enumerate(variants.items()):
            rows = [row for row, feature in enumerate(features) if feature in values]
            bars = [values[features[row]] for row in rows]
            where = [row + (place - (len(variants) - 1) / 2) * height for row in rows]
            errors = [bar.error for bar in bars]
            colours = {"color": COLOURS[place], "error_kw": {"elinewidth": 1}}
            axes.barh(where, [bar.value for bar in bars], height, xerr=errors, label=variant, **colours)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(label)
        axes.set_yticks(range(len(features)), features)
        decorate(axes)
        if number == 0:
            axes.invert_yaxis()
            axes.legend(frameon=False, fontsize=9)
    return figure


def by_depth(
    curves: Mapping[str, Mapping[str, Estimate]], names: Sequence[str], ylabel: str, level: tuple[str, float]
) -> Figure:
    """Values by depth, a line per curve; ``level`` is the name and height of a horizontal line."""
    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    axes = figure.subplots()
    _depth_lines(axes, curves, names)
    axes.axhline(level[1], color="black", linewidth=1, label=level[0])
    axes.set(xlabel="depth", ylabel=ylabel)
    axes.legend(frameon=False, fontsize=9)
    return figure


def observables_by_depth(
    panels: Mapping[str, Mapping[str, Mapping[str, Estimate]]],
    names: Sequence[str],
    groups: Sequence[Mapping[str, str]],
) -> Figure:
    """Held-out R^2 by depth, a line per observable, a column per kind of probe, a row per group.

    Args:
        panels: values by column title, observable and depth.
        names: all depths in order.
        groups: for each row, labels by observable; observables in no panel are omitted.
    """
    figure = Figure(figsize=(2.0 + (2.2 + 0.12 * len(names)) * len(panels), 7.2), layout="constrained")
    rows = figure.subplots(len(groups), len(panels), sharex=True, sharey=True, squeeze=False)
    for number, (group, line) in enumerate(zip(groups, rows, strict=True)):
        for axes, (title, curves) in zip(line, panels.items(), strict=True):
            _depth_lines(axes, {name: curves[name] for name in group if name in curves}, names, list(group))
            axes.axhline(0, color="black", linewidth=0.8)
            if number == 0:
                axes.set_title(title, fontsize=10)
            if number == len(groups) - 1:
                axes.set_xlabel("depth")
        lines = {text: each for axes in line for each, text in zip(*axes.get_legend_handles_labels(), strict=True)}
        shown = [name for name in group if name in lines]
        where = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False}
        line[-1].legend([lines[name] for name in shown], [group[name] for name in shown], **where)
        line[0].set_ylabel(r"held-out $R^2$")
    lowest = min((e.value for curves in panels.values() for c in curves.values() for e in c.values()), default=0)
    rows[0][0].set_ylim(max(min(lowest - 0.05, -0.1), -0.5), 1.03)
    return figure


def _depth_lines(
    axes: Axes, curves: Mapping[str, Mapping[str, Estimate]], names: Sequence[str], order: Sequence[str] = ()
) -> None:
    for place, (name, points) in enumerate(curves.items()):
        index = order.index(name) if order else place
        places = [number for number, depth in enumerate(names) if depth in points]
        values = [points[names[number]].value for number in places]
        errors = [points[names[number]].error for number in places]
        look = marked(index) | {"markersize": 4.5, "linewidth": 1.3}
        axes.errorbar(places, values, errors, label=name, capsize=2, elinewidth=0.8, **look)
    axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 7 else 0, fontsize=9)
    decorate(axes)


def _small_cells(axes: Axes, rows: int, columns: int) -> None:
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
