"""A jet and its attention as interactive HTML that needs no libraries and no network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from iagraph.interpret.display import NEGATIVE, POSITIVE, SUBJET_COLOURS, THRESHOLD, ShownJet, hulls, within_subjet
from iagraph.interpret.particles import OTHER, SPECIES

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
DIGITS = 3
"""Decimal places of weights."""


def live_jet(jet: ShownJet, title: str) -> str:
    """An interactive display: menus for layer and head, a slider for the smallest absolute weight to draw.

    Pointing at a particle shows its pT, its species, and its edges only. Marker areas are proportional to pT; line
    widths grow with the absolute weight; lines are solid within a subjet; colour shows the sign.

    Args:
        jet: the jet.
        title: title of the display; the result depends on jet and title only.
    """
    # "</" would end the script, and "<!--" would hide its end; both start with "<".
    data = json.dumps(live_data(jet), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    name = "jet-" + hashlib.sha256(f"{title}{data}".encode()).hexdigest()[:16]
    style = {"threshold": THRESHOLD, "positive": POSITIVE, "negative": NEGATIVE}
    return PAGES.get_template("live.html").render(name=name, title=title, data=data, **style)


def live_data(jet: ShownJet) -> dict[str, Any]:
    """The data of a display, as numbers and text.

    Returns:
        ``particles``: for each [pT, y, phi, index of the species in ``kinds``]; ``known``: whether species are known;
        ``hulls``: corners of each subjet; ``graphs``: distinct [sources, targets, whether within a subjet];
        ``layers``: for each [index of the graph, weights of the edges by head]; and ``colours``.
    """
    kinds = [OTHER] * jet.pt.size if jet.species is None else jet.species.tolist()
    columns = (jet.pt.round(2).tolist(), jet.y.round(4).tolist(), jet.phi.round(4).tolist(), kinds)
    graphs: dict[tuple[bytes, bytes], int] = {}
    listed, layers = [], []
    for layer in jet.layers:
        key = (layer.source.tobytes(), layer.target.tobytes())
        if key not in graphs:
            graphs[key] = len(graphs)
            within = within_subjet(jet, layer.source, layer.target).astype(int)
            listed.append([layer.source.tolist(), layer.target.tolist(), within.tolist()])
        layers.append([graphs[key], [[_short(weight) for weight in head] for head in layer.weights.T.tolist()]])
    return {
        "particles": [list(row) for row in zip(*columns, strict=True)],
        "known": jet.species is not None,
        "kinds": list(SPECIES),
        "hulls": [corners.round(4).tolist() for corners in hulls(jet)],
        "graphs": listed,
        "layers": layers,
        "colours": {"positive": POSITIVE, "negative": NEGATIVE, "subjets": list(SUBJET_COLOURS)},
    }


def _short(weight: float) -> float | int:
    rounded = round(weight, DIGITS)
    return int(rounded) if rounded == int(rounded) else rounded
