import math

import matplotlib.pyplot
import pytest
import torch

from iagraph.interpret.edges import CONTROLS, KeptEdges
from iagraph.metrics import Estimate
from iagraph.nn.pruning import RULES
from iagraph.plotting import save_figure
from iagraph.studies.pruning.figures import kept_edge_distributions, performance_against_cost
from iagraph.studies.pruning.measure import Row
from iagraph.studies.pruning.rules import retrained


def row(family, strength, auc=0.8, kept=0.3, rejection=20.0, rejection_key="rejection_at_0.5"):
    report = {"accuracy": Estimate(0.7, 0.01), "auc": Estimate(auc, 0.01), rejection_key: Estimate(rejection, 3.0)}
    difference = None if family == "unpruned" else Estimate(auc - 0.9, 0.002)
    return Row(family, strength, f"{family}={strength}", (kept, kept / 3), 5e6 * kept, 1e-3 * kept, report, difference)


def everything():
    families = [*RULES, *CONTROLS, *map(retrained, RULES)]
    rows = [row("unpruned", None, 0.9, 1.0), row("as trained", None, 0.86, 0.4)]
    rows.append(row("unpruned, retrained", None, 0.91, 1.0))
    return rows + [
        row(family, strength, 0.8 + 0.005 * i, 0.9 * strength)
        for i, family in enumerate(families)
        for strength in (0.1, 0.5, 0.9)
    ]


def lines(axes):
    return {line.get_label(): [list(map(float, v)) for v in line.get_data()] for line in axes.get_lines()}


def test_lines_show_the_rows_by_strength_with_error_bars():
    rows = [row("unpruned", None, 0.9, 1.0), row("top_k", 8, 0.88, 0.6), row("top_k", 4, 0.85, 0.3, math.inf)]
    figure = performance_against_cost(rows)
    auc, _, time, rejection, flop, _ = figure.axes
    assert lines(auc)["top_k"] == [pytest.approx([0.2, 0.4]), [0.85, 0.88]]  # mean over the layers; by strength
    assert lines(auc)["unpruned"][1] == [0.9, 0.9]
    bars = auc.containers[0][2][0].get_segments()
    assert bars[0][:, 1] == pytest.approx([0.848, 0.852])
    assert lines(time)["top_k"][0] == pytest.approx([0.3, 0.6])
    assert lines(rejection)["top_k"] == [[pytest.approx(0.4)], [20]]  # the infinite one is not drawn
    assert lines(flop)["top_k"][0] == [pytest.approx(3)]


def test_all_families_look_different_and_nothing_overlaps(tmp_path):
    rows = everything()
    figure = performance_against_cost(rows)
    save_figure(figure, tmp_path / "figure")
    (legend,) = figure.legends
    styles = {
        (h.get_color(), h.get_linestyle(), h.get_marker(), h.get_markerfacecolor())
        for h in figure.axes[0].get_lines()
        if h.get_label()[0] != "_"
    }
    assert len(styles) == len(legend.get_texts()) == len({row.family for row in rows})
    ticks = []
    for axes in figure.axes:
        assert not axes.get_window_extent().overlaps(legend.get_window_extent())
        low, high = axes.get_xlim()
        ticks += [t for t in axes.get_xticklabels() if low <= t.get_position()[0] <= high and t.get_text()]
    boxes = [text.get_window_extent() for text in ticks]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))
    assert matplotlib.pyplot.get_fignums() == []


def test_accuracy_is_shown_for_more_than_two_classes():
    rows = [
        row("unpruned", None, rejection_key="rejection_at_0.5/Z"),
        row("top_k", 4, rejection_key="rejection_at_0.5/Z"),
    ]
    figure = performance_against_cost(rows)
    assert figure.axes[3].get_ylabel() == "accuracy"
    assert lines(figure.axes[3])["top_k"][1] == [0.7]


@pytest.mark.parametrize("edges", [0, 1, 400])
def test_distributions_have_unit_area_where_there_are_edges(tmp_path, edges):
    torch.manual_seed(1)
    kept = torch.stack([torch.arange(edges) % 3 == 0, torch.zeros(edges, dtype=torch.bool)])
    figure = kept_edge_distributions(KeptEdges(torch.randn(3, edges), kept, None, None), "top_k=3")
    save_figure(figure, tmp_path / "survivors")
    for panel, axes in enumerate(figure.axes):
        areas = {}
        for patch in axes.patches:
            values, bins, _ = patch.get_data()
            areas[patch.get_label()] = float((values * (bins[1:] - bins[:-1])).sum())
        names = [name.removesuffix(" (none)") for name in areas]
        assert names == ["all", "kept", "dropped"]
        there = [edges > 0, edges > 0 and panel < 3, edges > 1 or (edges == 1 and panel >= 3)]
        assert list(areas.values()) == pytest.approx([float(some) for some in there])
        assert [name.endswith("(none)") for name in areas] == [not some for some in there]
