"""Draw the figure of the README: a quark and a gluon jet with all edges, and with those that a trained gate keeps.

    python docs/kept_edges.py RUN

writes `docs/kept_edges.png` for a run of `configs/qg_lite.yaml`, with jets of the test split.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

import iagraph
from iagraph.data import JetDataset, read_store, resolve
from iagraph.interpret.display import shown_jet
from iagraph.jets import JetBatch
from iagraph.plotting import COLOURS

PARTICLES = {"gluon": 55, "quark": 33}  # averages of such jets


def draw(axes: Axes, jets: JetBatch, edge_index: torch.Tensor, strength: np.ndarray | None, title: str) -> None:
    """Particles as discs with an area proportional to pT, edges as lines, the stronger the more opaque."""
    jet = shown_jet(jets, 0)
    places = np.stack([jet.y, jet.phi], axis=1)
    first, second = edge_index[:, edge_index[0] < edge_index[1]].numpy()
    opacity = np.full(len(first), 0.08) if strength is None else 0.1 + 0.9 * strength / strength.max()
    lines = LineCollection(np.stack([places[first], places[second]], axis=1), alpha=opacity, colors=COLOURS[0])
    axes.add_collection(lines)
    axes.scatter(*places.T, s=0.8 * jet.pt, color="black", linewidths=0, zorder=2)
    axes.set(
        title=title, aspect="equal", xlim=(-0.4, 0.4), ylim=(-0.4, 0.4), xticks=[-0.3, 0, 0.3], yticks=[-0.3, 0, 0.3]
    )
    axes.set(xlabel=r"$\Delta y$")


def main() -> None:
    """Draw the figure."""
    tagger = iagraph.load(sys.argv[1])
    model = tagger.model.eval()
    source = read_store(resolve("sample:qg"), "test")
    figure = Figure(figsize=(11, 3.3), layout="constrained")
    panels = iter(figure.subplots(1, 4, sharey=True))
    for name, particles in PARTICLES.items():
        number = np.flatnonzero((source.counts == particles) & (source.label == source.classes.index(name)))[0]
        jets = JetDataset(source)[number : number + 1]
        with torch.inference_mode():
            _, weights = model(jets, return_attention_weights=True)
        kept, alpha, _ = weights[-1]
        strength = alpha.abs().amax(1)[kept[0] < kept[1]].numpy()
        every = jets.prunable_graph().edge_index
        count = [int((edges[0] < edges[1]).sum()) for edges in (every, kept)]
        draw(next(panels), jets, every, None, f"{name} jet: {count[0]:,} pairs")
        draw(next(panels), jets, kept, strength, f"{count[1]} left by the gate")
    figure.axes[0].set_ylabel(r"$\Delta\phi$ [rad]")
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=150)


if __name__ == "__main__":
    main()
