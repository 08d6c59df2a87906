import math
from dataclasses import replace

import matplotlib.pyplot
import pytest

from iagraph.plotting import save_figure
from iagraph.studies.figures import cost_and_performance
from iagraph.studies.tables import OverSeeds, Row


def row(index, values=(0.880, 0.886, 0.883), rejection=(25.0, 26.0, 27.0)):
    numbers = {"accuracy": OverSeeds((0.8, 0.81, 0.82)), "auc": OverSeeds(values)}
    numbers["rejection_at_0.5"] = OverSeeds(rejection)
    return Row(f"model {index}", numbers, 10 ** (index % 5 + 2), 1e6 * 1.3**index, 1e-3)


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_points_are_means_and_seeds_at_their_cost():
    left, right = cost_and_performance([row(3)]).axes
    points, seeds = (line.get_data() for line in (left.containers[0][0], left.get_lines()[-1]))
    assert [float(values[0]) for values in points] == pytest.approx([1.3**3, 0.883])
    assert list(seeds[1]) == [0.880, 0.886, 0.883]
    (bar,) = left.containers[0][2][0].get_segments()
    assert bar[:, 1] == pytest.approx([0.880, 0.886])
    assert float(right.containers[0][0].get_ydata()[0]) == 26


@pytest.mark.parametrize("models", [1, 7, 10])
def test_models_are_told_apart_and_no_texts_overlap(tmp_path, models):
    figure = cost_and_performance([row(index) for index in range(models)])
    save_figure(figure, tmp_path / "figure")  # draws it, so that the layout is done
    assert legend(figure)[0] == "model 0 (100)"
    looks = {
        (bar[0].get_color(), bar[0].get_marker()) for bar in figure.axes[0].containers if bar.get_label() is not None
    }
    assert len(looks) == len(legend(figure)) == models
    for axes in figure.axes:
        texts = [text for text in axes.get_xticklabels() if text.get_text()]
        low, high = axes.get_xlim()
        boxes = [t.get_window_extent() for t in texts if low <= t.get_position()[0] <= high]
        assert len(boxes) >= 2
        assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))
        box = figure.legends[0].get_window_extent()
        assert not box.overlaps(axes.get_window_extent())
        assert figure.bbox.x1 >= box.x1
    assert matplotlib.pyplot.get_fignums() == []


def test_what_is_infinite_is_named():
    figure = cost_and_performance([row(1), row(2, rejection=(25.0, math.inf, 26.0))])
    assert [text.get_text() for text in figure.axes[1].texts] == ["infinite, not shown: model 2"]
    assert not figure.axes[0].texts
    assert len(legend(figure)) == 2


def test_one_seed_and_no_spread():
    figure = cost_and_performance([row(1, values=(0.88,), rejection=(25.0,))])
    assert len(figure.axes[0].containers[0][2]) == 0  # no bar


def test_more_classes_show_their_accuracy():
    numbers = {
        "accuracy": OverSeeds((0.7, 0.8)),
        "auc": OverSeeds((0.9, 0.9)),
        "rejection_at_0.5/Hbb": OverSeeds((9.0, 8.0)),
    }
    _, right = cost_and_performance([replace(row(1), numbers=numbers)]).axes
    assert right.get_ylabel() == "accuracy"
    assert float(right.containers[0][0].get_ydata()[0]) == 0.75
