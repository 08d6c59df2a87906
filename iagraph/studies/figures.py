"""Shared utilities for the figures of studies; none uses pyplot's global state."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
