"""The figures of a study of stability."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from iagraph.estimates import Array, mean_over_runs
from iagraph.plotting import drawable, style
from iagraph.studies.figures import MARKERS, decorate, legend_above, marked
from iagraph.studies.stability.measure import KINDS, Kind, Response, Spread

NUMBERS = {
    "auc_change": "change of AUC",
    "variation": "mean |change of probability|",
    "flip_rate": "fraction of decisions that flip",
}
BINS = 10


def response_figure(groups: Mapping[str, Sequence[Sequence[Response]]]) -> Figure:
    """Effects of changes to the jets on outputs, against the size of the change; a column per kind, a line per group.

    Markers are means over the runs of a group with their errors, small dots single runs.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05)
    figure = Figure(figsize=(3.0 * len(KINDS), 7.6), layout=layout)
    panels = figure.subplots(len(NUMBERS), len(KINDS), sharex="col", sharey="row", squeeze=False)
    for line, (key, label) in zip(panels, NUMBERS.items(), strict=True):
        for axes, kind in zip(line, KINDS, strict=True):
            for number, (name, runs) in enumerate(groups.items()):
                _response_line(axes, runs, kind, key, number, name)
            axes.axhline(0, color="0.4", linewidth=0.8, zorder=0)
            decorate(axes)
            axes.xaxis.set_major_locator(MaxNLocator(3))
        line[0].set_ylabel(label)
    for axes, kind in zip(panels[0], KINDS, strict=True):
        axes.set_title(kind.name, fontsize=10)
    for axes, kind in zip(panels[-1], KINDS, strict=True):
        axes.set_xlabel(kind.unit)
        axes.set_xlim(0, 1.1 * kind.sizes[-1])
        axes.set_xticks(kind.sizes, [f"{size:g}" for size in kind.sizes], fontsize=7)
    legend_above(figure, panels[0][0], 3)
    return figure


def _response_line(
    axes: Axes, runs: Sequence[Sequence[Response]], kind: Kind, key: str, number: int, name: str
) -> None:
    at = [[r for r in run if r.kind == kind.name] for run in runs]
    sizes = np.array([r.size for r in at[0]])
    # Groups are shifted slightly, so that their error bars can be told apart.
    shift = 0.008 * kind.sizes[-1] * (number % 5 - 1)
    single = [[getattr(run[place], key) for run in at] for place in range(len(sizes))]
    found = [mean_over_runs(each) for each in single]
    looks, beside = marked(number), 0.02 * kind.sizes[-1]
    bars: dict[str, Any] = {"yerr": [each.error for each in found], "elinewidth": 1, "capsize": 2}
    bars |= {"markersize": 5, "linewidth": 1.3}
    axes.errorbar(sizes + shift, [each.value for each in found], label=drawable(name), **bars, **looks)
    if len(runs) > 1:
        for size, each in zip(sizes, single, strict=True):
            values = [one.value for one in each]
            axes.plot([size + shift + beside] * len(runs), values, ".", color=looks["color"], markersize=3, alpha=0.6)


def spread_figure(spreads: Mapping[str, Spread], profiles: Mapping[str, tuple[Array, Array]]) -> Figure:
    """How much the runs of each group differ: AUC of each run, measures of the spread, and spread against probability.

    Args:
        spreads: by the name of the group.
        profiles: by the name of the group, the mean over the runs of the probability of each jet's true class, and its
            standard deviation, shape [jets] each.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    names = ["\n".join(textwrap.wrap(drawable(name), 24)) for name in spreads]
    lines = max(name.count("\n") + 1 for name in names)
    figure = Figure(figsize=(11, 4.6 + 0.25 * (1 + lines) * len(names)), layout=layout)
    (upper,), (lower,) = figure.subfigures(
        2, 1, squeeze=False, height_ratios=[1.1 + 0.25 * (1 + lines) * len(names), 3.5]
    )
    panels = upper.subplots(1, 4, sharey=True)
    _auc_panel(panels[0], spreads)
    keys = {
        "deviation": "standard deviation of the\nprobability, mean over jets",
        "flip_rate": "fraction of jets that two\nruns classify differently",
        "rank_correlation": "rank correlation\nof two runs",
    }
    for axes, (key, label) in zip(panels[1:], keys.items(), strict=True):
        for place, found in enumerate(spreads.values()):
            value, error = getattr(found, key)
            axes.errorbar(
                [value], [place], xerr=[error], fmt=MARKERS[place % len(MARKERS)], capsize=3, **_colour(place)
            )
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    profile = lower.subplots(1, 1)
    for place, (name, (centre, deviation)) in enumerate(profiles.items()):
        _profile(profile, centre, deviation, place, name)
    profile.set_xlabel("probability of the true class, mean over runs")
    profile.set_ylabel("standard deviation over runs")
    profile.set_xlim(0, 1)
    profile.set_ylim(bottom=0)
    profile.legend(frameon=False, fontsize=9)
    for axes in (*panels, profile):
        decorate(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3))
    return figure


def _auc_panel(axes: Axes, spreads: Mapping[str, Spread]) -> None:
    for place, found in enumerate(spreads.values()):
        values = found.auc.values
        axes.plot(values, [place + 0.18] * len(values), ".", markersize=5, **_colour(place))
        marker = MARKERS[place % len(MARKERS)]
        axes.errorbar([found.auc.mean], [place], xerr=[found.auc.spread], fmt=marker, capsize=3, **_colour(place))
    axes.set_xlabel("AUC: mean and spread,\ndots: single runs")


def _profile(axes: Axes, centre: Array, deviation: Array, number: int, name: str) -> None:
    edges = np.linspace(0, 1, BINS + 1)
    bins = np.clip(np.digitize(centre, edges) - 1, 0, BINS - 1)
    shift = 0.006 * (number % 5 - 1)
    points = []
    for place in range(BINS):
        mine = deviation[bins == place]
        if len(mine) > 1:
            points.append(
                ((edges[place] + edges[place + 1]) / 2 + shift, mine.mean(), mine.std(ddof=1) / len(mine) ** 0.5)
            )
    if points:
        x, y, error = zip(*points, strict=True)
        axes.errorbar(x, y, yerr=error, markersize=5, capsize=2, label=drawable(name), **marked(number))


def _colour(number: int) -> dict[str, Any]:
    return {"color": style(number)["color"]}
