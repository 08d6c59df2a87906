r"""Jets in the plane of :math:`\Delta y` and :math:`\Delta\phi` (rad) about their axis, with attention as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError

from iagraph.interpret.particles import OTHER, SPECIES, species
from iagraph.interpret.recording import LayerAttention, Recording
from iagraph.jets import JetBatch
from iagraph.kinematics import wrap_phi
from iagraph.observables import subjets
from iagraph.plotting import COLOURS

SPECIES_MARKERS = dict(zip(SPECIES, "^voPXs", strict=True))
"""Markers as in arXiv 2512.00210; a square for other or unknown species."""

Floats = NDArray[np.float64]
POSITIVE, NEGATIVE = COLOURS[0], COLOURS[1]
SUBJET_COLOURS = (COLOURS[2], COLOURS[4], COLOURS[3])
THRESHOLD = 0.2
"""Default for the smallest absolute weight to draw."""


class Edges(NamedTuple):
    """Edges of an attention layer within one jet, self-edges included.

    Attributes:
        source, target: indices of particles within the jet, shape [edges].
        weights: signed weights, shape [edges, heads].
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    weights: Floats


class ShownJet(NamedTuple):
    """A jet to be drawn.

    Attributes:
        pt: transverse momenta of the particles in GeV, shape [particles].
        y, phi: rapidities and azimuths of the particles relative to the jet axis, azimuths wrapped.
        species: indices into :data:`~iagraph.interpret.particles.SPECIES`, or None.
        subjet: index of each particle's kT subjet, -1 for none; None without FastJet.
        layers: edges of each attention layer in order; may be empty.
    """

    pt: Floats
    y: Floats
    phi: Floats
    species: NDArray[np.int64] | None
    subjet: NDArray[np.int64] | None
    layers: Sequence[Edges]


def shown_jet(jets: JetBatch, number: int, recording: Recording | None = None) -> ShownJet:
    """A jet of a batch, with its attention if recorded.

    Args:
        jets: the jets.
        number: index of the jet.
        recording: from :func:`~iagraph.interpret.recording.record_attention` of the same batch.
    """
    begin, end = jets.ptr[number : number + 2].tolist()
    layers = [] if recording is None else [_edges(layer, begin, end) for layer in recording.layers]
    jet = jets.part(number, number + 1).to("cpu")
    axis = jet.sums().select(jet.batch)
    kind, subjet = species(jet), subjets(jet)
    return ShownJet(
        pt=jet.momenta.pt.double().numpy(),
        y=(jet.momenta.rapidity - axis.rapidity).double().numpy(),
        phi=wrap_phi(jet.momenta.phi - axis.phi).double().numpy(),
        species=None if kind is None else kind.numpy(),
        subjet=None if subjet is None else subjet.numpy(),
        layers=layers,
    )


def _edges(layer: LayerAttention, begin: int, end: int) -> Edges:
    target = layer.edge_index[1]
    mine = (target >= begin) & (target < end)
    source, target = (layer.edge_index[:, mine] - begin).cpu().numpy()
    return Edges(source, target, layer.alpha[mine].detach().double().cpu().numpy())


def draw_jets(
    jets: Sequence[ShownJet],
    titles: Sequence[str],
    layer: int = -1,
    head: int | None = None,
    threshold: float = THRESHOLD,
) -> Figure:
    """Jets side by side, four per row, with the edges of an attention layer and a legend.

    Args:
        jets: at least one.
        titles: one per jet.
        layer: index of the attention layer.
        head: index of the head; None for the head with the largest absolute weight on each edge.
        threshold: smallest absolute weight that is drawn.
    """
    columns = min(4, len(jets))
    lines = -(-len(jets) // columns)
    figure = Figure(figsize=(0.6 + 3.3 * columns, 0.6 + 3.4 * lines), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes, jet, title in zip(panels, jets, titles, strict=False):
        draw_subjets(axes, jet)
        if jet.layers:
            draw_edges(axes, jet, layer, head, threshold)
        draw_particles(axes, jet)
        axes.set_title(title, fontsize=9)
    for axes in panels[len(jets) :]:  # the rest of the last row
        axes.set_visible(False)
    figure.legend(handles=legend(jets), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def draw_particles(axes: Axes, jet: ShownJet, values: Floats | None = None, **style: Any) -> Any:
    """Draw particles: marker area proportional to pT, marker shape by species.

    Args:
        axes: the axes to draw on.
        jet: the jet.
        values: values for the colour map, shape [particles]; None for grey.
        style: arguments of :meth:`matplotlib.axes.Axes.scatter`, for example ``cmap``, ``vmin`` and ``vmax``.

    Returns:
        The mappable for a colour bar, or None for an empty jet.
    """
    drawn = None
    sizes = 10 + 500 * jet.pt / max(jet.pt.sum(), 1e-30)
    kinds = np.full(jet.pt.size, OTHER) if jet.species is None else jet.species
    for kind, marker in enumerate(SPECIES_MARKERS.values()):
        mine = kinds == kind
        if mine.any():
            colour = {"color": "0.35"} if values is None else {"c": values[mine]} | style
            drawn = axes.scatter(
                jet.y[mine], jet.phi[mine], s=sizes[mine], marker=marker, edgecolors="black", linewidths=0.4, zorder=3,
                **colour,
            )  # fmt: skip
    reach = 1.12 * max(0.05, np.abs(jet.y).max(initial=0), np.abs(jet.phi).max(initial=0))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_xlabel(r"$\Delta y$", fontsize=9)
    axes.set_ylabel(r"$\Delta\phi$ [rad]", fontsize=9)
    axes.tick_params(labelsize=7)
    axes.locator_params(nbins=5)
    return drawn


def draw_edges(
    axes: Axes, jet: ShownJet, layer: int = -1, head: int | None = None, threshold: float = THRESHOLD
) -> None:
    """Draw edges between different particles: width and opacity by absolute weight, colour by sign.

    Solid lines stay within a subjet; dashed lines join different subjets, or end at a particle in no subjet.

    Args:
        axes: the axes to draw on.
        jet: the jet.
        layer: index of the attention layer.
        head: index of the head; None for the head with the largest absolute weight on each edge.
        threshold: smallest absolute weight that is drawn.
    """
    edges = jet.layers[layer]
    weights = head_weights(edges, head)
    shown = np.flatnonzero((np.abs(weights) >= threshold) & (edges.source != edges.target))
    if not shown.size:
        return
    shown = shown[np.argsort(np.abs(weights[shown]))]  # strong edges on top
    source, target, weights = edges.source[shown], edges.target[shown], weights[shown]
    places = np.stack([jet.y, jet.phi], axis=1)
    size = np.clip(np.abs(weights), 0, 1)
    axes.add_collection(
        LineCollection(
            list(np.stack([places[source], places[target]], axis=1)),
            colors=np.where(weights < 0, NEGATIVE, POSITIVE).tolist(),
            linewidths=0.3 + 2.2 * size,
            alpha=(0.25 + 0.7 * size).tolist(),
            linestyles=["-" if same else (0, (3, 2)) for same in within_subjet(jet, source, target)],
            zorder=2,
        )
    )


def head_weights(edges: Edges, head: int | None) -> Floats:
    """Weights of a head, or for None the weight with the largest absolute value on each edge; shape [edges]."""
    if head is not None:
        return edges.weights[:, head]
    largest = np.abs(edges.weights).argmax(axis=1)[:, None]
    return np.take_along_axis(edges.weights, largest, axis=1)[:, 0]


def within_subjet(jet: ShownJet, source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each edge stays within a subjet, always true if subjets are unknown; shape [edges]."""
    if jet.subjet is None:
        return np.ones(source.shape, dtype=bool)
    return (jet.subjet[source] == jet.subjet[target]) & (jet.subjet[source] >= 0)


def hulls(jet: ShownJet) -> list[Floats]:
    """Corners of the convex hull of each subjet, shape [corners, 2]; a line for two particles, a point for one."""
    corners = []
    numbers = [] if jet.subjet is None else [number for number in np.unique(jet.subjet) if number >= 0]
    for number in numbers:
        places = np.stack([jet.y, jet.phi], axis=1)[jet.subjet == number]
        try:
            places = places[ConvexHull(places).vertices]
        except (QhullError, ValueError):  # fewer than three, or collinear
            places = places[np.unique([*places.argmin(axis=0), *places.argmax(axis=0)])]
        corners.append(places)
    return corners


def draw_subjets(axes: Axes, jet: ShownJet) -> None:
    """Shade the convex hulls of subjets."""
    for number, corners in enumerate(hulls(jet)):
        colour = SUBJET_COLOURS[number % len(SUBJET_COLOURS)]
        flat = len(corners) < 3  # a line or a point has no area
        axes.fill(*corners.T, facecolor=colour, edgecolor=colour if flat else "none", alpha=0.16, linewidth=6, zorder=0)


def legend(jets: Sequence[ShownJet]) -> list[Line2D]:
    """Legend entries for the markers and lines of these jets."""
    known = [jet.species for jet in jets if jet.species is not None]
    kinds = sorted({int(kind) for each in known for kind in each})
    grey: dict[str, Any] = {"color": "0.35", "markeredgecolor": "black", "linestyle": "", "markersize": 7}
    lines = [Line2D([], [], marker=SPECIES_MARKERS[SPECIES[kind]], label=SPECIES[kind], **grey) for kind in kinds]
    if any(jet.layers for jet in jets):
        lines.append(Line2D([], [], color=POSITIVE, label="weight > 0"))
        if any((layer.weights < 0).any() for jet in jets for layer in jet.layers):
            lines.append(Line2D([], [], color=NEGATIVE, label="weight < 0"))
        if any(jet.subjet is not None for jet in jets):
            lines.append(Line2D([], [], color="0.2", linestyle=(0, (3, 2)), label="not within a subjet"))
    return lines
