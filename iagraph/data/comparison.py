"""Two sets of jets side by side, for example generated and real ones."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from iagraph.data.jets import StoreError
from iagraph.data.overview import QUANTITIES, UNWEIGHTED, Overview, edges_of
from iagraph.plotting import drawable, style
from iagraph.tables import markdown

COMPARED = ("multiplicity", "pt", "mass")


class Comparison:
    """Jet multiplicity, pT and mass in two sets of jets, class by class.

    The Kolmogorov-Smirnov statistic D is the largest difference between the cumulative distributions; p is the
    probability of a D at least as large if both sets came from one distribution (two-sided; overestimated for
    multiplicities, which are discrete).

    Args:
        overviews: the two sets by name; distributions use at most 100,000 jets each.

    Raises:
        StoreError: no class has jets in both sets.
    """

    def __init__(self, overviews: dict[str, Overview]) -> None:
        self.names = tuple(overviews)
        one, other = overviews.values()
        self.weighted = one.weighted or other.weighted
        self.values = {
            name: (one.values(name), other.values(name))
            for name in one.classes
            if name in other.classes and len(one.values(name)) and len(other.values(name))
        }
        if not self.values:
            found = f"{', '.join(one.classes)} and {', '.join(other.classes)}"
            raise StoreError(f"{' and '.join(self.names)}: no class has jets in both; found {found}")

    def table(self) -> str:
        """Means with their errors, D and p as a Markdown table."""
        rows = [["class", "quantity", *self.names, "D", "p"]]
        for name, sets in self.values.items():
            for column, quantity in enumerate(QUANTITIES):
                if quantity in COMPARED:
                    pair = [values[:, column] for values in sets]
                    means = [f"{x.mean():.2f} +- {_error(x):.2f}" for x in pair]
                    test = ks_2samp(*pair)
                    rows.append([name, quantity, *means, f"{test.statistic:.3f}", f"{test.pvalue:.2g}"])
        return "\n\n".join([markdown(rows), *([UNWEIGHTED] if self.weighted else [])])

    def figure(self) -> Figure:
        """The distributions, one row per class."""
        figure = Figure(figsize=(11, 0.6 + 2.8 * len(self.values)), layout="constrained")
        panels = figure.subplots(len(self.values), len(COMPARED), squeeze=False)
        for row, (name, sets) in zip(panels, self.values.items(), strict=True):
            for axes, quantity in zip(row, COMPARED, strict=True):
                column = list(QUANTITIES).index(quantity)
                pair = [values[:, column] for values in sets]
                edges = edges_of(np.concatenate(pair), [len(x) for x in pair], whole=quantity == "multiplicity")
                for index, (label, values) in enumerate(zip(self.names, pair, strict=True)):
                    heights = np.histogram(values, edges)[0] / len(values)
                    axes.stairs(heights, edges, label=drawable(label), **style(index))
                axes.set_xlabel(f"{drawable(name)}: {QUANTITIES[quantity]}")
                axes.set_ylabel("fraction of jets")
                axes.grid(alpha=0.25)
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
        return figure


def _error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean; NaN for a single value."""
    return float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
