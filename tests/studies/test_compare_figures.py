import math
from dataclasses import replace

import matplotlib.pyplot
import pytest

from iagraph.estimates import OverSeeds
from iagraph.plotting import save_figure
from iagraph.studies.compare.figures import cost_and_performance
from iagraph.studies.compare.measure import Row

LONG = "ParT, fine-tuned from the ten classes of JetClass with a new head"


def row(index, values=(0.880, 0.886, 0.883), rejection=(25.0, 26.0, 27.0), name="model {}"):
    numbers = {"accuracy": OverSeeds((0.8, 0.81, 0.82)), "auc": OverSeeds(values)}
    numbers["rejection_at_0.5"] = OverSeeds(rejection)
    return Row(name.format(index), numbers, 10 ** (index % 5 + 2), 1e6 * 1.3**index, 1e-3 * (index + 1))


def points(axes):
    """Coordinates of everything drawn with dots."""
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    return [list(map(float, pair)) for line in lines for pair in zip(*line.get_data(), strict=True)]


def test_means_spreads_seeds_and_cost_of_each_model_in_its_row():
    figure = cost_and_performance([row(3), row(5, values=(0.90, 0.91, 0.92))])
    auc, rejection, cost = figure.axes
    assert [text.get_text() for text in auc.get_yticklabels()] == [
        "model 3\n100k parameters",
        "model 5\n100 parameters",
    ]
    first, *rest = points(auc)
    assert first == pytest.approx([0.883, 0])
    assert rest[:3] == [[value, pytest.approx(0.28)] for value in (0.880, 0.886, 0.883)]  # below the mean
    assert rest[3] == pytest.approx([0.91, 1])
    (bar,) = auc.containers[0][2][0].get_segments()
    assert bar[:, 0] == pytest.approx([0.880, 0.886])
    assert points(rejection)[0] == [26, 0]
    assert points(cost) == [[pytest.approx(1.3**3), 0], [pytest.approx(1.3**5), 1]]
    assert [text.get_text() for text in cost.texts] == ["4 ms", "6 ms"]
    top, bottom = auc.transData.transform([(0.88, 0), (0.88, 1)])[:, 1]
    assert top > bottom  # the first model on top


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
        assert area.width > 200
        for text in axes.texts:
            assert area.x0 < text.get_window_extent().x0 < text.get_window_extent().x1 < area.x1
    boxes = [text.get_window_extent() for text in [*names, *ticks]]
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    assert matplotlib.pyplot.get_fignums() == []


def test_what_is_infinite_is_named_in_its_row():
    figure = cost_and_performance([row(1), row(2, rejection=(25.0, math.inf, 26.0))])
    auc, rejection, _ = figure.axes
    (text,) = rejection.texts
    assert (text.get_text(), text.get_position()[1]) == ("infinite in 1 of 3", 1)
    assert not auc.texts
    assert [26, 1] not in points(rejection)
    assert [x for x, y in points(rejection) if y > 1] == [25, 26]


def test_all_infinite(tmp_path):
    figure = cost_and_performance([row(1, rejection=(math.inf,)), row(2, rejection=(math.inf,))])
    save_figure(figure, tmp_path / "figure")
    assert not figure.axes[1].get_xticklabels()


def test_one_seed_and_no_spread():
    figure = cost_and_performance([row(1, values=(0.88,), rejection=(25.0,))])
    assert len(figure.axes[0].containers[0][2]) == 0  # no bar
    assert points(figure.axes[0]) == [[0.88, 0]]
    assert figure.get_supxlabel() == ""


def test_more_classes_show_their_accuracy():
    numbers = {
        "accuracy": OverSeeds((0.7, 0.8)),
        "auc": OverSeeds((0.9, 0.9)),
        "rejection_at_0.5/Hbb": OverSeeds((9.0, 8.0)),
    }
    _, accuracy, _ = cost_and_performance([replace(row(1), numbers=numbers)]).axes
    assert accuracy.get_xlabel() == "accuracy"
    assert points(accuracy)[0] == [0.75, 0]
