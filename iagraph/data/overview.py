"""Overview of a set of jets: numbers and a figure that show at a glance whether it is as expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from iagraph.data.jets import Jets
from iagraph.data.readers import open_jets
from iagraph.data.sources import as_batch
from iagraph.plotting import drawable, style
from iagraph.tables import markdown

SAMPLE = 100_000
"""Largest number of jets in distributions of jet quantities; the numbers in tables cover all jets."""
UNWEIGHTED = "all jets count alike: their weights are ignored"
"""Note for readers wherever jets have weights that are not applied."""
QUANTITIES = {
    "multiplicity": "particles per jet",
    "pt": "jet $p_T$ [GeV]",
    "mass": "jet mass [GeV]",
    "y": "jet rapidity",
}
PARTICLE_PT = np.logspace(-2, 3.2, 53)  # GeV
SPECIES = {11: "e", 13: "μ", 22: "γ", 211: "π$^±$", 321: "K$^±$", 2212: "p", 130: "K$_L$", 2112: "n"}


class Overview:
    """Running summary of jets added in parts, in constant memory.

    Numbers, species and particle pT cover all jets. Distributions of jet quantities use a sample that is halved
    whenever it exceeds 100,000 jets. Jets without particles are only counted.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.jets = self.particles = self.empty = 0
        self.weighted = False
        self.species: Counter[int] = Counter()
        self._number = np.zeros(len(classes), np.int64)
        self._sum = np.zeros((len(classes), len(QUANTITIES)))
        self._low, self._high = np.full_like(self._sum, np.inf), np.full_like(self._sum, -np.inf)
        self._halvings = 0
        self._kept: list[NDArray[Any]] = [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, len(QUANTITIES)))]
        self._particle_pt = np.zeros((len(classes), len(PARTICLE_PT) - 1))

    def add(self, jets: Jets) -> None:
        """Add the next jets."""
        batch = as_batch(jets)
        momenta = batch.sums()
        columns = (jets.counts, momenta.pt.numpy(), momenta.mass.numpy(), momenta.rapidity.numpy())
        full = jets.counts > 0
        label, values = jets.label[full], np.stack(columns, axis=1)[full].astype(np.float64)
        np.add.at(self._number, label, 1)
        np.add.at(self._sum, label, values)
        np.minimum.at(self._low, label, values)
        np.maximum.at(self._high, label, values)
        new = (self.jets + np.flatnonzero(full), label, values)
        self._kept = [np.concatenate(pair) for pair in zip(self._kept, self._sampled(new), strict=True)]
        while len(self._kept[0]) > SAMPLE:
            self._halvings += 1
            self._kept = self._sampled(self._kept)
        for index in range(len(self.classes)):
            mine = jets.particles["pt"][np.repeat(jets.label == index, jets.counts)]
            self._particle_pt[index] += np.histogram(mine, PARTICLE_PT)[0]
        if "pid" in jets.particles:
            species, counts = np.unique(np.abs(jets.particles["pid"]), return_counts=True)
            self.species.update(dict(zip(species.tolist(), counts.tolist(), strict=True)))
        self.jets, self.particles = self.jets + len(jets), self.particles + int(jets.offsets[-1])
        self.empty += int(np.count_nonzero(~full))
        self.weighted |= jets.weight is not None

    def _sampled(self, columns: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        # Fibonacci hashing of the jet's number, the first column: uniform, yet out of step with alternating classes.
        hashed = columns[0].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        chosen = hashed >> np.uint64(64 - self._halvings) == 0 if self._halvings else np.ones(len(hashed), bool)
        return [column[chosen] for column in columns]

    def values(self, name: str) -> NDArray[np.float64]:
        """Multiplicity, pT, mass and rapidity of the sampled jets of a class, shape [jets, 4]."""
        _, label, values = self._kept
        return values[label == self.classes.index(name)]

    def table(self) -> str:
        """Markdown table of jets, multiplicity, pT and mass by class; below it, empty jets and species, if any."""
        rows = [["class", "jets", "particles per jet", "jet pT [GeV]", "jet mass [GeV]"]]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = self._sum / self._number[:, None]
        for name, number, middle, low, high in zip(
            self.classes, self._number, mean, self._low, self._high, strict=True
        ):
            cells = [f"{middle[k]:.1f} ({low[k]:.{d}f} to {high[k]:.{d}f})" for k, d in ((0, 0), (1, 1), (2, 1))]
            rows.append([name, f"{number:,}", *(cells if number else "---")])
        lines = [markdown(rows)]
        if self.weighted:
            lines.append(f"\n{UNWEIGHTED}")
        if self.empty:
            lines.append(f"\n{self.empty:,} jets have no particles")
        if self.species:
            known = self.species.most_common(10)
            fractions = [f"{SPECIES.get(pid, pid)} {count / self.particles:.1%}" for pid, count in known]
            if others := self.particles - sum(count for _, count in known):
                fractions.append(f"others {others / self.particles:.1%}")
            lines.append(f"\nspecies: {', '.join(fractions)}".translate({ord("$"): None, ord("^"): None}))
        return "\n".join(lines)

    def figure(self) -> Figure:
        """Distributions of jets and particles, one line per class."""
        figure = Figure(figsize=(11, 6.2), layout="constrained")
        panels = figure.subplots(2, 3).ravel()
        _, label, values = self._kept
        for column, (axes, title) in enumerate(zip(panels, QUANTITIES.values(), strict=False)):
            edges = edges_of(values[:, column], np.bincount(label), whole=column == 0)
            heights = [np.histogram(values[label == index, column], edges)[0] for index in range(len(self.classes))]
            self._steps(axes, heights, edges, title)
        self._steps(panels[4], list(self._particle_pt), PARTICLE_PT, "particle $p_T$ [GeV]")
        panels[4].set(xscale="log", yscale="log")
        known = self.species.most_common(10)
        panels[5].barh([SPECIES.get(pid, str(pid)) for pid, _ in known], [n / self.particles for _, n in known])
        panels[5].invert_yaxis()
        panels[5].set_xlabel("fraction of particles")
        if not known:
            panels[5].text(0.5, 0.5, "species not recorded", ha="center", va="center", transform=panels[5].transAxes)
            panels[5].set_axis_off()
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=min(5, len(self.classes))
        )
        return figure

    def _steps(self, axes: Axes, heights: list[NDArray[np.float64]], edges: NDArray[np.float64], title: str) -> None:
        for index, (name, height) in enumerate(zip(self.classes, heights, strict=True)):
            if height.sum() == 0:
                continue
            axes.stairs(
                height / height.sum(), edges, label=f"{drawable(name)} ({self._number[index]:,})", **style(index)
            )
        axes.set_xlabel(title)
        axes.set_ylabel("fraction of the class")
        axes.grid(alpha=0.25)


def overview_of(path: str | Path) -> Overview:
    """Overview of the jets in a file; raises StoreError and ImportError like ``iagraph.data.open_jets``."""
    reader = open_jets(path)
    overview = Overview(reader.classes)
    for part in reader.parts():
        overview.add(part)
    return overview


def edges_of(values: NDArray[np.float64], sizes: ArrayLike, whole: bool) -> NDArray[np.float64]:
    """Bin edges that cover all values but the most extreme ones.

    Args:
        values: all values to be drawn.
        sizes: number of values per line; the smallest sets the bin width: the fewer values, the wider the bins.
        whole: whether values are integers, which need bins of integer width.
    """
    smallest = min((size for size in np.asarray(sizes).tolist() if size), default=0)
    bins = int(np.clip(np.sqrt(smallest), 10, 50))
    low, high = np.percentile(values, (0.1, 99.9)) if len(values) else (0, 1)
    if whole:
        return np.arange(np.floor(low), high + 2, max(1, round((high - low) / bins))) - 0.5
    return np.linspace(low, high + (high == low), bins + 1)
