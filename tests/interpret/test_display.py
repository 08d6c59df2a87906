import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

from iagraph.interpret import display
from iagraph.interpret.display import (
    Edges,
    ShownJet,
    draw_edges,
    draw_jets,
    draw_particles,
    head_weights,
    hulls,
    legend,
    shown_jet,
    within_subjet,
)
from iagraph.interpret.recording import record_attention
from iagraph.kinematics import Momenta
from iagraph.models import CascadedIAFormer, IAFormer
from iagraph.nn import TopK
from iagraph.plotting import save_figure
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 7, 2]
SMALL = {"width": 6, "blocks": 2, "heads": 3, "particle_hidden": [7], "pair_width": 11}


@pytest.fixture(scope="module")
def recorded():
    torch.manual_seed(1)
    model, jets = IAFormer(**SMALL, pair_hidden=[5]).eval(), random_jets(COUNTS, 1)
    for conv in model.convs():
        with torch.no_grad():
            conv.lin_score.weight *= 30
    with torch.no_grad():
        return jets, record_attention(model, jets)


def a_jet(subjet=None):
    """Four particles, the last two of which are the second subjet."""
    weights = np.array([[0.5, -0.7], [0.3, 0.1], [-0.9, 0.2], [1.0, 1.0], [0.15, -0.1]])
    edges = Edges(np.array([0, 1, 2, 3, 3]), np.array([1, 2, 3, 3, 0]), weights)
    y, phi = np.array([-0.1, 0.0, 0.1, 0.2]), np.array([0.0, 0.3, -0.1, 0.1])
    return ShownJet(np.array([50.0, 30.0, 15.0, 5.0]), y, phi, np.array([0, 2, 0, 4]), subjet, [edges])


def test_edges_are_those_of_the_recording(recorded):
    jets, recording = recorded
    for number, size in enumerate(COUNTS):
        begin = int(jets.ptr[number])
        jet = shown_jet(jets, number, recording)
        assert len(jet.layers) == 2
        for mine, layer in zip(jet.layers, recording.layers, strict=True):
            assert mine.weights.shape == (size**2, 3)
            whole = torch.zeros(15, 15, 3, dtype=torch.float64)
            whole[layer.edge_index[1], layer.edge_index[0]] = layer.alpha.double()
            own = whole[begin : begin + size, begin : begin + size].numpy()
            np.testing.assert_array_equal(own[mine.target, mine.source], mine.weights)
        assert jet.pt.tolist() == jets.momenta.pt[begin : begin + size].tolist()


def test_dropped_edges_are_not_drawn():
    model, jets = CascadedIAFormer(**SMALL, gate_fraction=1.0, pruning=TopK(k=2)).eval(), random_jets([6], 2)
    with torch.no_grad():
        jet = shown_jet(jets, 0, record_attention(model, jets))
    assert [layer.source.size < 36 for layer in jet.layers] == [True, True]


def test_angles_are_wrapped_about_the_axis():
    phi = torch.tensor([math.pi - 0.1, -math.pi + 0.1, math.pi - 0.2, -math.pi + 0.2])
    momenta = Momenta(torch.ones(4), torch.tensor([1.0, 1.2, 1.2, 1.0]), phi, torch.zeros(4))
    jets = replace(random_jets([4], 1), momenta=momenta)
    jet = shown_jet(jets, 0)
    np.testing.assert_allclose(jet.phi, [-0.1, 0.1, -0.2, 0.2], atol=1e-6)
    np.testing.assert_allclose(jet.y, [-0.1, 0.1, 0.1, -0.1], atol=1e-3)
    assert jet.layers == []


def test_heads():
    edges = a_jet().layers[0]
    assert head_weights(edges, 1).tolist() == [-0.7, 0.1, 0.2, 1.0, -0.1]
    assert head_weights(edges, None).tolist() == [-0.7, 0.3, -0.9, 1.0, 0.15]


def test_lines():
    axes = Figure().subplots()
    jet = a_jet(np.array([0, 0, 1, 1]))
    draw_edges(axes, jet, threshold=0.2)
    (lines,) = [item for item in axes.collections if isinstance(item, LineCollection)]
    ends = [segment.tolist() for segment in lines.get_segments()]
    # The weakest first; neither the edge of a particle with itself nor what lies below the threshold.
    assert ends == [[[0.0, 0.3], [0.1, -0.1]], [[-0.1, 0.0], [0.0, 0.3]], [[0.1, -0.1], [0.2, 0.1]]]
    np.testing.assert_allclose(lines.get_linewidths(), 0.3 + 2.2 * np.array([0.3, 0.7, 0.9]))
    colours = [display.POSITIVE, display.NEGATIVE, display.NEGATIVE]
    found = [tuple(int(255 * part + 0.5) for part in colour[:3]) for colour in lines.get_colors()]
    assert found == [tuple(bytes.fromhex(colour[1:])) for colour in colours]
    assert [dashes[1] is None for dashes in lines.get_linestyles()] == [False, True, True]


def test_within_subjets():
    source, target = np.array([0, 0, 1, 3]), np.array([1, 2, 3, 3])
    assert within_subjet(a_jet(np.array([0, 0, 1, -1])), source, target).tolist() == [True, False, False, False]
    assert within_subjet(a_jet(), source, target).all()


def test_hulls():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=float)
    line = np.array([[2, 0], [3, 0], [4, 0]], dtype=float)
    places = np.concatenate([square, line, [[7, 7]], [[9, 9]]])
    subjet = np.array([0] * 5 + [1] * 3 + [2, -1])
    jet = ShownJet(np.ones(10), *places.T, None, subjet, [])
    corners = [sorted(map(tuple, each.tolist())) for each in hulls(jet)]
    assert corners == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(2, 0), (4, 0)], [(7, 7)]]
    assert hulls(a_jet()) == []


def test_markers():
    axes = Figure().subplots()
    values = np.array([0.1, -0.5, 0.2, 1.0])
    draw_particles(axes, a_jet(), values, vmin=-1, vmax=1)
    found = {tuple(map(tuple, dots.get_offsets().tolist())): dots for dots in axes.collections}
    assert list(found) == [((-0.1, 0.0), (0.1, -0.1)), ((0.0, 0.3),), ((0.2, 0.1),)]  # one for each species
    sizes = np.concatenate([dots.get_sizes() for dots in found.values()])
    np.testing.assert_allclose((sizes - 10) / 500, [0.5, 0.15, 0.3, 0.05])
    assert [dots.get_array().tolist() for dots in found.values()] == [[0.1, 0.2], [-0.5], [1.0]]
    labels = [line.get_label() for line in legend([a_jet()])]
    assert labels == ["charged hadron", "photon", "muon", "weight > 0", "weight < 0"]


def test_any_jets_can_be_drawn(recorded, tmp_path):
    jets, recording = recorded
    shown = [shown_jet(jets, number, recording) for number in range(5)]
    shown.append(shown_jet(replace(jets, pid=None), 3))
    figure = draw_jets(shown, list("abcdef"))
    save_figure(figure, tmp_path / "jets")
    visible = [axes for axes in figure.axes if axes.get_visible()]
    dots = [sum(len(c.get_offsets()) for c in axes.collections if isinstance(c, PathCollection)) for axes in visible]
    assert dots == [*COUNTS, 7]
    assert [axes.get_title() for axes in visible] == list("abcdef")
    assert shown[5].species is None


def test_without_fastjet(recorded, monkeypatch):
    monkeypatch.setattr(display, "subjets", lambda jets: None)
    jet = shown_jet(recorded[0], 0, recorded[1])
    assert jet.subjet is None
    figure = draw_jets([jet], ["a"])
    assert "not within a subjet" not in [text.get_text() for text in figure.legends[0].get_texts()]
