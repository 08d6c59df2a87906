"""A jet and its attention as a piece of HTML that reacts to the reader: no library, no network."""

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
    """A jet to be looked at: layer and head by choice, a slider for the smallest absolute weight that is drawn.

    Whoever points at a particle sees its pT, its species, and its edges alone. The marker's area is proportional to pT,
    lines are wide where weights are large, solid within a subjet, and of another colour where weights are negative.

    Args:
        jet: the jet.
        title: of the display; the same jet with the same title gives the same text.
    """
    # "</" would end the script; "<!--" would hide its end. Both have a "<".
    data = json.dumps(live_data(jet), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    name = "jet-" + hashlib.sha256(f"{title}{data}".encode()).hexdigest()[:16]
    return PAGES.get_template("live.html").render(name=name, title=title, data=data, threshold=THRESHOLD)


def live_data(jet: ShownJet) -> dict[str, Any]:
    """What a display knows of a jet, all of it numbers and text.

    Returns:
        ``particles``: for each [pT, y, phi, species as a place in ``kinds``]; ``hulls``: corners of each subjet;
        ``graphs``: for each [sources, targets, whether within a subjet], each once; ``layers``: for each [number of the
        graph, for each head the weights of its edges].
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
