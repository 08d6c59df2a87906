"""Shared utilities for the figures of studies; none uses pyplot's global state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from iagraph.plotting import style

MARKERS = "osD^vPX*<>dph"
GREY = "0.45"
REJECTION = "rejection_at_0.5"
LABELS = {"auc": "AUC", REJECTION: "background rejection\nat signal efficiency 0.5"}
FEATURE_LABELS = {
    "log_kt": r"$\ln(k_T / \mathrm{GeV})$",
    "log_delta_r": r"$\ln \Delta R$",
    "log_m2": r"$\ln(m^2 / \mathrm{GeV}^2)$",
}


def marked(index: int) -> dict[str, Any]:
    """Colour, line style and marker of a curve, chosen by its index."""
    return style(index) | {"marker": MARKERS[index % len(MARKERS)]}


def decorate(axes: Axes) -> None:
    """Add a pale grid behind the data and remove the top and right spines."""
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend_above(figure: Figure, axes: Axes, columns: int) -> None:
    """Draw the legend of one panel above the whole figure."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=columns, frameon=False, fontsize=9)


def log_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set a logarithmic x axis with tick labels even if all values are of one order of magnitude; linear with zeros."""
    if min(values) <= 0:
        return
    ratio = max(values) / min(values)
    axes.set(xscale="log", xlim=(min(values) / max(ratio**0.06, 1.05), max(values) * max(ratio**0.06, 1.05)))
    subs = (1,) if ratio > 100 else (1, 2, 5) if ratio > 20 else (1, 1.5, 2, 3, 5, 7)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
