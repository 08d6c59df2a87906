"""Figures of the study of attribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from iagraph.estimates import Truth, ratio
from iagraph.interpret.deletion import FRACTIONS
from iagraph.interpret.display import Floats, ShownJet, draw_particles, draw_subjets, legend
from iagraph.plotting import style
from iagraph.studies.attribution.measure import BINNED, CONTROLS, LEAST, METHODS, MOST, Measured, left
from iagraph.studies.figures import decorate, legend_above

AXES = {"pt": r"$p_T$ [GeV]", "distance": r"$\Delta R$ to the jet axis"}
REACH = 3.0
"""Largest absolute relative relevance in the colour scale."""

CONTROL_STYLES: dict[str, dict[str, Any]] = {
    "highest pT first": {"color": "0.35", "marker": "v"},
    "lowest pT first": {"color": "0.35", "marker": "^"},
    "by chance": {"color": "0.6", "marker": "x"},
}


class Example(NamedTuple):
    """A jet to be drawn with its relevance.

    Attributes:
        jet: the jet.
        title: title of the panel.
        relevance: relative relevance by method, shape [particles].
    """

    jet: ShownJet
    title: str
    relevance: Mapping[str, Floats]


def relevance_maps(examples: Sequence[Example]) -> Figure:
    """Particles of jets in the plane of rapidity and azimuth, coloured by relevance; rows: jets, columns: methods.

    Relevance is relative: its mean absolute value in each jet is 1. The colour scale ends at :data:`REACH`.
    """
    methods = list(examples[0].relevance)
    figure = Figure(figsize=(3.0 * len(methods) + 0.6, 2.9 * len(examples) + 0.7), layout="constrained")
    panels = figure.subplots(len(examples), len(methods), squeeze=False)
    drawn = None
    for row, example in enumerate(examples):
        for column, method in enumerate(methods):
            axes = panels[row][column]
            draw_subjets(axes, example.jet)
            colours = {"cmap": "RdBu_r", "vmin": -REACH, "vmax": REACH}
            drawn = draw_particles(axes, example.jet, example.relevance[method], **colours) or drawn
            if row == 0:
                axes.set_title(method, fontsize=10)
            if column > 0:
                axes.set_ylabel("")
            if row < len(examples) - 1:
                axes.set_xlabel("")
        panels[row][0].set_ylabel(f"{example.title}\n" + panels[row][0].get_ylabel())
    if drawn is not None:
        bar = figure.colorbar(drawn, ax=panels, fraction=0.02, pad=0.01, extend="both")
        bar.set_label("relative relevance r, red for the class and blue against it")
    particles = [example.jet._replace(layers=()) for example in examples]
    figure.legend(handles=legend(particles), loc="outside lower center", ncols=6, frameon=False)
    return figure


def deletion_curves(found: Measured, truth: Truth) -> Figure:
    """Evidence for the decision, and AUC, against the fraction of particles dropped."""
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    most, least, performance = figure.subplots(1, 3)
    orders = {axes: [(name, first) for name in METHODS] for axes, first in ((most, MOST), (least, LEAST))}
    orders[performance] = orders[most]
    for axes, mine in orders.items():
        for number, order in enumerate([*mine, *((name, "") for name in CONTROLS)]):
            if axes is performance:
                estimates = [truth.auc(logits.numpy()) for logits in found.logits[order]]
            else:
                values = left(found, order)
                estimates = [ratio(each, values[0]) for each in values]
            y, errors = np.array(estimates).T
            looks = CONTROL_STYLES.get(order[0]) or style(number) | {"marker": "o"}
            axes.errorbar(FRACTIONS, y, errors, label=order[0], markersize=4, linewidth=1.3, **looks)
        axes.axhline(0.5 if axes is performance else 0, color="0.8", linewidth=0.8, zorder=0)
        axes.set_xlabel("fraction of particles dropped")
        decorate(axes)
    most.set_title("methods: most relevant first", fontsize=10)
    least.set_title("methods: least relevant first", fontsize=10)
    performance.set_title("methods: most relevant first", fontsize=10)
    most.set_ylabel("evidence for the decision / that of whole jets")
    performance.set_ylabel("AUC" if truth.signal is not None else "macro AUC")
    legend_above(figure, most, 7)
    return figure


def relevance_profiles(found: Measured) -> Figure:
    """Mean relevance per particle against pT and distance to the axis: absolute and signed."""
    figure = Figure(figsize=(10.5, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex="col")
    for row, prefix in enumerate(("", "signed ")):
        for axes, (name, edges) in zip(panels[row], BINNED.items(), strict=True):
            counts = found.particles[name]
            shown = np.flatnonzero((counts > 0).sum(0).numpy() >= 2)  # an error needs two jets
            edge = np.array(edges)
            centres = (np.sqrt(edge[1:] * edge[:-1]) if name == "pt" else (edge[1:] + edge[:-1]) / 2)[shown]
            for number, method in enumerate(METHODS):
                sums = found.relevance[method][prefix + name]
                points = [ratio(sums[:, place], counts[:, place]) for place in shown]
                y, errors = np.array(points).reshape(-1, 2).T
                axes.errorbar(centres, y, errors, label=method, marker="o", markersize=4, **style(number))
            axes.axhline(1 if prefix == "" else 0, color="0.7", linewidth=0.8, zorder=0)
            decorate(axes)
            if name == "pt" and shown.size:
                axes.set(xscale="log", yscale="linear" if prefix else "log")
            if prefix:
                axes.set_xlabel(AXES[name])
    panels[0][0].set_ylabel(r"mean of $|r|$ per particle")
    panels[1][0].set_ylabel(r"mean of $r$ per particle")
    panels[0][0].legend(frameon=False, fontsize=9)
    return figure
