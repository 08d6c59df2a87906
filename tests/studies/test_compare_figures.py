import math
from dataclasses import replace

import matplotlib.pyplot
import pytest

from iagraph.estimates import OverSeeds
from iagraph.plotting import save_figure
from iagraph.studies.compare.figures import cost_and_performance, trade_offs
from iagraph.studies.compare.measure import Costs, Row

LONG = "ParT, fine-tuned from the ten classes of JetClass with a new head"


def row(index, values=(0.880, 0.886, 0.883), rejection=(25.0, 26.0, 27.0), name="model {}"):
    numbers = {"accuracy": OverSeeds((0.8, 0.81, 0.82)), "auc": OverSeeds(values)}
    numbers["rejection_at_0.5"] = OverSeeds(rejection)
    costs = Costs(1e-3 * (index + 1), 0.1 * index)
    return Row(name.format(index), numbers, 10 ** (index % 5 + 2), 1e6 * 1.3**index, OverSeeds((60.0,)), costs, None)


def points(axes):
    """Coordinates of everything drawn with dots."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return [list(map(float, pair)) for line in lines for pair in zip(*line.get_data(), strict=True)]


def means(axes):
    """Points in the middle of a row."""
    return [point for point in points(axes) if point[1].is_integer()]


def seeds(axes, row):
    """Values of the points below the middle of a row."""
    return [x for x, y in points(axes) if row < y < row + 0.5]


def test_each_row_shows_mean_spread_seeds_and_cost_of_a_model():
    figure = cost_and_performance([row(3), row(5, values=(0.90, 0.91, 0.92))])
    auc, rejection, cost = figure.axes
    assert [text.get_text().split("\n")[0] for text in auc.get_yticklabels()] == ["model 3", "model 5"]
    assert auc.yaxis_inverted()  # the first model on top
    assert means(auc) == [pytest.approx([0.883, 0]), pytest.approx([0.91, 1])]
    assert [seeds(auc, 0), seeds(auc, 1)] == [[0.880, 0.886, 0.883], [0.90, 0.91, 0.92]]
    (bar,) = auc.containers[0][2][0].get_segments()
    assert bar[:, 0] == pytest.approx([0.880, 0.886])
    assert means(rejection) == [[26, 0], [26, 1]]
    assert points(cost) == [[pytest.approx(1.3**3), 0], [pytest.approx(1.3**5), 1]]
    assert [text.xy for text in cost.texts] == [pytest.approx(point) for point in points(cost)]
    assert [float(text.get_text().split()[0]) for text in cost.texts] == [4, 6]  # ms


@pytest.mark.parametrize("name", ["model {}", LONG + " {}", "a${}$b"])
@pytest.mark.parametrize("models", [1, 2, 7, 10])
def test_everything_is_inside_and_nothing_overlaps(tmp_path, models, name):
    figure = cost_and_performance([row(index, name=name) for index in range(models)])
    save_figure(figure, tmp_path / "figure")  # draws it, so that the layout is done
    names = figure.axes[0].get_yticklabels()
    if name != LONG + " {}":
        assert [text.get_text().split("\n")[0] for text in names] == [name.format(index) for index in range(models)]
    ticks = []
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
        assert len(shown) >= 2
        ticks += shown
        area = axes.get_window_extent()
        for text in axes.texts:
            assert area.x0 < text.get_window_extent().x0 < text.get_window_extent().x1 < area.x1
    assert sum(axes.get_window_extent().width for axes in figure.axes) > figure.bbox.width / 2  # however long the names
    boxes = [text.get_window_extent() for text in [*names, *ticks]]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert matplotlib.pyplot.get_fignums() == []


def test_infinite_means_are_written_in_their_row():
    infinite = row(2, rejection=(25.0, math.inf, 26.0))
    auc, rejection, _ = cost_and_performance([row(1), infinite]).axes
    (text,) = rejection.texts
    assert text.get_text() == str(infinite.numbers["rejection_at_0.5"])
    assert text.get_position()[1] == 1  # the row
    assert not auc.texts
    assert means(rejection) == [[26, 0]]
    assert seeds(rejection, 1) == [25, 26]


def test_a_panel_of_infinite_values_has_no_ticks(tmp_path):
    figure = cost_and_performance([row(1, rejection=(math.inf,)), row(2, rejection=(math.inf,))])
    save_figure(figure, tmp_path / "figure")
    assert not figure.axes[1].get_xticklabels()


def test_one_seed_has_neither_bar_nor_small_dots():
    figure = cost_and_performance([row(1, values=(0.88,), rejection=(25.0,))])
    assert len(figure.axes[0].containers[0][2]) == 0  # no bar
    assert points(figure.axes[0]) == [[0.88, 0]]
    assert figure.get_supxlabel() == ""


def test_accuracy_is_shown_for_more_than_two_classes():
    numbers = {
        "accuracy": OverSeeds((0.7, 0.8)),
        "auc": OverSeeds((0.9, 0.9)),
        "rejection_at_0.5/Hbb": OverSeeds((9.0, 8.0)),
    }
    _, accuracy, _ = cost_and_performance([replace(row(1), numbers=numbers)]).axes
    assert accuracy.get_xlabel() == "accuracy"
    assert points(accuracy)[0] == [0.75, 0]


def test_trade_offs_show_each_model_at_its_costs(tmp_path):
    unknown = replace(row(4), costs=Costs(0.005, math.nan), training=OverSeeds((math.nan,)))
    figure = trade_offs([row(3), unknown])
    save_figure(figure, tmp_path / "figure")
    for axes, places in zip(figure.axes, 2 * ([[0.3], []], [[1.3**3], [1.3**4]], [[4], [5]], [[60], []]), strict=True):
        assert [container[0].get_xdata().tolist() for container in axes.containers] == [
            pytest.approx(place) for place in places
        ]
    assert [float(container[0].get_ydata()[0]) for container in figure.axes[1].containers] == pytest.approx([0.883] * 2)
    assert [float(container[0].get_ydata()[0]) for container in figure.axes[5].containers] == [26, 26]
