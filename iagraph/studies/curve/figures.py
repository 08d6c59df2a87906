"""The figure of a learning curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from iagraph.plotting import style
from iagraph.studies.compare.measure import Row
from iagraph.studies.curve.measure import PowerLaw
from iagraph.studies.figures import LABELS, MARKERS, decorate, legend_above, log_axis


def learning_curves(
    points: Mapping[int, Sequence[Row]], laws: Mapping[str, Mapping[str, PowerLaw]], number: int
) -> Figure:
    """AUC and, with two classes, background rejection of each model against the number of training jets.

    Points are means over seeds, bars their spread, and lines the power laws, dotted beyond the largest number of
    training jets, up to ``number``, where bars are the errors of the extrapolation. Infinite means are left out.
    """
    keys = list(next(iter(laws.values())))
    figure = Figure(figsize=(5.4 * len(keys), 4.6), layout="constrained")
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    jets, last = list(points), max(points)
    inside, beyond = np.geomspace(jets[0], last, 50), np.geomspace(last, number, 50)
    for axes, key in zip(panels, keys, strict=True):
        for index, (model, each) in enumerate(laws.items()):
            look = {"color": style(index)["color"], "linestyle": "none", "capsize": 2}
            numbers = [rows[index].numbers[key] for rows in points.values()]
            means = [one.mean if math.isfinite(one.mean) else math.nan for one in numbers]
            spreads = [one.spread for one in numbers]
            marker = MARKERS[index % len(MARKERS)]
            axes.errorbar(jets, means, yerr=spreads, marker=marker, markersize=6, label=model, **look)
            exponent, end = each[key]
            for where, line in ((inside, "-"), (beyond, ":")):
                law = end.value * (where / number) ** exponent.value
                axes.plot(where, 1 - law if key == "auc" else law, line, color=look["color"], linewidth=1.1)
            value = 1 - end.value if key == "auc" else end.value
            axes.errorbar([number], [value], yerr=[end.error], marker=marker, markerfacecolor="white", **look)
        decorate(axes)
        log_axis(axes, [*jets, number])
        axes.set(xlabel="training jets (open markers: extrapolated)", ylabel=LABELS.get(key, key))
    legend_above(figure, panels[0], 5)
    return figure
