"""The figures of a study of sparsity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from iagraph.interpret.binarity import FRACTION_EDGES, WEIGHT_EDGES
from iagraph.interpret.geometry import FRACTION_BINS, PAIR_EDGES
from iagraph.interpret.rows import BINARY
from iagraph.interpret.sums import JetSums
from iagraph.metrics import Estimate
from iagraph.plotting import drawable, style
from iagraph.studies.figures import FEATURE_LABELS, decorate, legend_above, marked
from iagraph.studies.report import Figures
from iagraph.studies.sparsity.measure import RunAttention

FRACTION_LIMITS = (0, 1.04)
"""Axis limits for fractions, with space for a marker at one."""


def figures(runs: Sequence[RunAttention]) -> Figures:
    """All figures with captions by name; with several runs, names of a run's figures end in its number."""
    found: Figures = {"comparison": (comparison(runs), _COMPARISON)}
    for number, run in enumerate(runs, start=1):
        ending = f"-{number}" if len(runs) > 1 else ""
        of_run: Figures = {"weights": (weights(run), _WEIGHTS), "distances": (distances(run), _DISTANCES)}
        if "ratio" in run.found.histograms:
            of_run["scores"] = scores(run), _SCORES
        elif "maps_differ" in run.found.layers:
            of_run["maps"] = maps(run), _MAPS
        if "split" in run.found.layers:
            of_run["subjets"] = subjets(run), _SUBJETS
        if len(run.epochs) > 1:
            of_run["epochs"] = epochs(run), _EPOCHS
        found |= {f"{name}{ending}": (figure, f"{run.name}: {text}") for name, (figure, text) in of_run.items()}
    return found


_COMPARISON = (
    "All runs: the largest weight of each row, all layers and heads (left of the dotted line a row is not binary); the "
    "fraction of rows that are not binary; the effective number of neighbours over the number of a row's edges."
)
_WEIGHTS = (
    "attention weights by layer, all heads and edges; sizes of positive and negative weights, where there are any; "
    "the largest fraction of each row, which left of the dotted line is not binary."
)
_SCORES = (
    "|A| / |U| of the same edge before the softmax; standard deviations of A and of U within a row, mean over rows; "
    "rows whose largest source U changes, and rows that are not binary."
)
_MAPS = (
    "differential attention: rows whose two maps have different largest sources, and in which subtracting the second "
    "changes the largest; rows that are not binary, of the difference and of each map."
)
_DISTANCES = (
    "attention between different particles against Delta R, kT and m^2, compared with all pairs, each jet adding 1."
)
_SUBJETS = (
    "attention between different kT subjets: fraction by class and layer, with controls (band: error of the trained "
    "model), and its distribution over jets, layers and heads."
)


_EPOCHS = (
    "the weights kept during training: rows that are not binary, effective number of neighbours over the number of a "
    "row's edges, and, where there are such, the spreads of A and U within a row, by layer."
)


def comparison(runs: Sequence[RunAttention]) -> Figure:
    """Largest weights, non-binary rows and effective neighbours of all runs."""
    figure, panels = _panels(3, (13, 4.2))
    for number, run in enumerate(runs):
        counts = run.found.histograms["largest"].sum(0)
        _steps(panels[0], counts, FRACTION_EDGES, label=drawable(run.name), **style(number))
        for axes, name in zip(panels[1:], ("non_binary", "relative"), strict=True):
            _by_layer(axes, run.found, name, label=drawable(run.name), **marked(number))
    _largest(panels[0])
    panels[1].set(ylabel="fraction of non-binary rows", ylim=FRACTION_LIMITS)
    panels[2].set(ylabel=r"$e^H$ / edges of the row", ylim=FRACTION_LIMITS)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def weights(run: RunAttention) -> Figure:
    """Attention weights of all edges, and the largest fraction in each row, layer by layer."""
    found, signed = run.found.histograms, bool((run.found.histograms["weights"][:, : len(WEIGHT_EDGES) // 2]).any())
    figure, panels = _panels(3 if signed else 2, (13 if signed else 9, 4.2))
    middle = len(WEIGHT_EDGES) // 2
    for counts, look in zip(found["weights"], _layer_styles(run), strict=True):
        part, edges = (counts, WEIGHT_EDGES) if signed else (counts[middle:], WEIGHT_EDGES[middle:])
        _steps(panels[0], part, edges, **look)
    panels[0].set(yscale="log", xlabel="attention weight", ylabel="density of edges")
    if signed:
        total = found["weights"].sum(0)
        for name, part, look in (
            ("positive", total[middle:], style(0)),
            ("negative", total[:middle].flip(0), style(1)),
        ):
            number = float(total.sum())
            label = f"{name}, {float(part.sum()) / max(number, 1):.1%} of edges"
            _steps(panels[1], part, WEIGHT_EDGES[middle:], number, label=label, **look)
        panels[1].set(yscale="log", xlabel="|attention weight|", ylabel="density of edges, all layers")
        panels[1].legend(frameon=False, fontsize=9)
    for counts, look in zip(found["largest"], _layer_styles(run), strict=True):
        _steps(panels[-1], counts, FRACTION_EDGES, **look)
    _largest(panels[-1])
    legend_above(figure, panels[0], 8)
    return figure


def scores(run: RunAttention) -> Figure:
    """Scores from queries and keys (A) compared with those from pairs (U), before the softmax."""
    figure, (ratio, spreads, flips) = _panels(3, (13, 4.2))
    counts = run.found.histograms["ratio"]
    places = np.arange(counts.size(1))
    for layer, look in zip(_fractions(counts), _layer_styles(run), strict=True):
        ratio.plot(places, layer, color=look["color"], linewidth=1, marker=".", label=look["label"])
    ratio.bar(places, _fractions(counts.sum(0, keepdim=True))[0], color="0.85", zorder=0, label="all layers")
    names = ["0-1", "1-10", *(rf"$10^{power}$-$10^{power + 1}$" for power in range(1, 6)), r"$\geq 10^6$"]
    ratio.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    ratio.set(xlabel="|A| / |U|", ylabel="fraction of edges", ylim=(0, None))
    ratio.legend(frameon=False, fontsize=8)
    for number, (name, label) in enumerate((("content_spread", r"$A = QK^T / \sqrt{d}$"), ("pair_spread", "U, pairs"))):
        _by_layer(spreads, run.found, name, label=label, **marked(number))
    spreads.set(ylabel="standard deviation within a row", ylim=(0, None))
    spreads.legend(frameon=False, fontsize=9)
    _flags(flips, run.found, {"flip": "largest source changed by U", "non_binary": "non-binary"})
    return figure


def maps(run: RunAttention) -> Figure:
    """Comparison of the two maps of differential attention."""
    figure, (flips, binary) = _panels(2, (9, 4.2))
    names = {"maps_differ": "largest sources of the maps differ", "subtraction": "second map changes the largest"}
    _flags(flips, run.found, names)
    names = {"non_binary": r"$|\alpha|$", "non_binary_first": "first map", "non_binary_second": "second map"}
    _flags(binary, run.found, names)
    binary.set_ylabel("fraction of non-binary rows")
    return figure


def epochs(run: RunAttention) -> Figure:
    """How attention changes during training, layer by layer."""
    names = {
        "non_binary": "fraction of non-binary rows",
        "relative": r"$e^H$ / edges of the row",
        "content_spread": "spread of A within a row",
        "pair_spread": "spread of U within a row",
    }
    names = {name: label for name, label in names.items() if name in run.found.layers}
    figure, panels = _panels(len(names), (4.4 * len(names), 4.2))
    for axes, (name, label) in zip(panels, names.items(), strict=True):
        for layer, look in enumerate(_layer_styles(run)):
            values = [each.found.ratio(name, "row", layer) for each in run.epochs.values()]
            errors = [value.error for value in values]
            axes.errorbar([*run.epochs], [value.value for value in values], yerr=errors, marker=".", **look)
        axes.set(xlabel="epoch", ylabel=label, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(figure, panels[0], 8)
    return figure


def distances(run: RunAttention) -> Figure:
    """Attention against the kinematics of pairs."""
    figure, panels = _panels(3, (13, 4.2))
    for axes, (name, edges) in zip(panels, PAIR_EDGES.items(), strict=True):
        pairs = run.found.histograms[f"pairs {name}"][0]
        heights = _density(pairs, edges)
        axes.stairs(heights, edges.numpy(), color="0.85", fill=True, label="pairs")
        for counts, look in zip(run.found.histograms[name], _layer_styles(run), strict=True):
            _steps(axes, counts, edges, **look)
        axes.set(xlabel=FEATURE_LABELS[name], xlim=(float(edges[0]), float(edges[-1])), ylim=(0, None))
    panels[0].set_ylabel("density")
    legend_above(figure, panels[0], 9)
    return figure


def subjets(run: RunAttention) -> Figure:
    """Attention between kT subjets, by class and layer, and its distribution."""
    figure, (by_layer, distribution) = _panels(2, (11, 4.6))
    layers = np.arange(run.layers) + 1
    for label, name in enumerate(run.run.run.classes):
        mine, look = run.labels == label, style(label)["color"]
        for prefix, line in (("", "o-"), ("random ", "--"), ("shuffled ", ":")):
            found = [run.found.ratio(f"{prefix}between", f"{prefix}split", layer, mine) for layer in range(run.layers)]
            values = np.array([each.value for each in found])
            by_layer.plot(layers, values, line, color=look, markersize=5, label=None if prefix else drawable(name))
            if not prefix:
                errors = np.array([each.error for each in found])
                by_layer.fill_between(layers, values - errors, values + errors, color=look, alpha=0.2, linewidth=0)
    for line, text in (("--", "random weights"), (":", "particles shuffled")):
        by_layer.plot([], [], line, color="0.4", label=text)
    _layer_axis(by_layer, run.layers)
    by_layer.set_ylabel("fraction of attention between subjets")
    legend_above(figure, by_layer, 6)
    for number, (prefix, text) in enumerate(
        (("", "trained"), ("random ", "random weights"), ("shuffled ", "shuffled"))
    ):
        counts = run.found.histograms[f"{prefix}between"].sum(0)
        _steps(distribution, counts, FRACTION_BINS, label=text, **style(number))
    distribution.set(
        yscale="log", xlabel="fraction of attention between subjets", ylabel="density of jets, layers, heads"
    )
    distribution.legend(frameon=False, fontsize=9)
    return figure


def _panels(number: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    panels = list(np.atleast_1d(figure.subplots(1, number)))
    for axes in panels:
        decorate(axes)
    return figure, panels


def _layer_styles(run: RunAttention) -> Iterator[dict[str, Any]]:
    """Styles of layers in order: colours from dark to light, suited to all kinds of colour vision."""
    colours = matplotlib.colormaps["cividis"](np.linspace(0, 0.92, run.layers))
    for layer, colour in enumerate(colours, start=1):
        yield {"color": colour, "label": f"layer {layer}", "linewidth": 1.3}


def _steps(axes: Axes, counts: Tensor, edges: Tensor, number: float | None = None, **look: Any) -> None:
    axes.stairs(_density(counts, edges, number), edges.numpy(), **look)


def _density(counts: Tensor, edges: Tensor, number: float | None = None) -> np.ndarray:
    total = float(counts.sum()) if number is None else number
    heights = (counts / edges.diff()).numpy() / (total or 1.0)
    return np.where(heights > 0, heights, np.nan) if number is not None else heights


def _fractions(counts: Tensor) -> np.ndarray:
    return (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()


def _largest(axes: Axes) -> None:
    axes.axvline(BINARY, color="0.5", linestyle=":", linewidth=1)
    axes.set(
        yscale="log", xlabel=r"largest $|\alpha_{ij}|\,/\,\Sigma_k|\alpha_{ik}|$ of a row", ylabel="density of rows"
    )


def _by_layer(axes: Axes, found: JetSums, name: str, below: str = "row", **look: Any) -> None:
    layers = found.layers[name].size(1)
    numbers: list[Estimate] = [found.ratio(name, below, layer) for layer in range(layers)]
    places, values = np.arange(layers) + 1, [number.value for number in numbers]
    axes.errorbar(places, values, yerr=[number.error for number in numbers], markersize=5, capsize=2, **look)
    _layer_axis(axes, layers)


def _layer_axis(axes: Axes, layers: int) -> None:
    axes.set_xlabel("layer")
    axes.set_xlim(0.7, max(layers + 0.3, axes.get_xlim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _flags(axes: Axes, found: JetSums, names: dict[str, str]) -> None:
    for number, (name, label) in enumerate(names.items()):
        _by_layer(axes, found, name, label=label, **marked(number))
    axes.set(ylabel="fraction of rows", ylim=FRACTION_LIMITS)
    axes.legend(frameon=False, fontsize=9)
