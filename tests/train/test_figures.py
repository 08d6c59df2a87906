import math

import matplotlib
import matplotlib.pyplot
import numpy as np
import pytest

from iagraph.metrics import background_rejection, roc_auc
from iagraph.plotting import save_figure
from iagraph.train.figures import class_roc_curves, confusion, loss_curves, roc_curves, score_histograms

pytestmark = pytest.mark.usefixtures("drawn")

HISTORY = [
    {"epoch": 1, "train_loss": 0.6, "val_loss": 0.5, "val_auc": 0.8},
    {"epoch": 2, "train_loss": 0.4, "val_loss": 0.3, "val_auc": 0.87654},
    {"epoch": 3, "train_loss": 0.2, "val_loss": 0.35, "val_auc": 0.9},
]


def jets(count, separation, seed=1):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    signal = separation * (rng.normal(0, 1, count) + separation * (labels - 0.5))
    return labels, np.stack([np.zeros(count), signal], axis=1)


def drawn(axes, label):
    (line,) = (line for line in axes.get_lines() if str(line.get_label()).startswith(label))
    return np.array(line.get_data())


def test_loss_curves_show_the_history_and_mark_the_lowest_validation_loss():
    top, bottom = loss_curves(HISTORY).axes
    np.testing.assert_array_equal(drawn(top, "training"), [[1, 2, 3], [0.6, 0.4, 0.2]])
    np.testing.assert_array_equal(drawn(top, "validation"), [[1, 2, 3], [0.5, 0.3, 0.35]])
    np.testing.assert_array_equal(drawn(bottom, "validation, 0.8765")[1], [0.8, 0.87654, 0.9])
    assert [2, 2] in [list(line.get_xdata()) for line in top.get_lines()]


def test_loss_curves_with_diverged_and_interrupted_epochs():
    diverged = {"epoch": 4, "train_loss": math.nan, "val_loss": math.nan, "val_auc": 0.5}
    top, _ = loss_curves([*HISTORY, diverged]).axes
    assert [2, 2] in [list(line.get_xdata()) for line in top.get_lines()]
    assert loss_curves([diverged]).axes
    top, _ = loss_curves([*HISTORY, {"epoch": 4, "train_loss": 0.1}]).axes
    assert drawn(top, "training")[1, -1] == 0.1


def test_roc_curve_and_legend_agree_with_the_metrics():
    labels, scores = jets(2000, 1.5)
    (axes,) = roc_curves({"network": (labels, scores)}).axes
    eps_s, rejection = drawn(axes, "network")
    for at in (0.3, 0.5, 0.9):
        assert rejection[np.isclose(eps_s, at)] == pytest.approx(background_rejection(labels, scores, at).value)
    assert (eps_s[-1], rejection[-1]) == (1, 1)
    label = axes.get_lines()[0].get_label()
    for text in (roc_auc(labels, scores), *(background_rejection(labels, scores, at) for at in (0.3, 0.5))):
        assert str(text).replace("+-", "±") in label


def test_roc_band_is_one_standard_error_of_the_efficiency():
    labels, scores = jets(2000, 1.5)
    (axes,) = roc_curves({"network": (labels, scores)}).axes
    (band,) = axes.collections
    vertices = band.get_paths()[0].vertices
    at_half = np.unique(vertices[np.isclose(vertices[:, 0], 0.5), 1])
    value, error = background_rejection(labels, scores, 0.5)
    eps, sigma = 1 / value, error / value**2
    np.testing.assert_allclose(at_half[[0, -1]], [1 / (eps + sigma), 1 / (eps - sigma)])


def test_only_discrete_scores_have_dots_at_cuts():
    labels, scores = jets(2000, 1.5)
    multiplicity = np.round(2 * scores[:, 1]).clip(-2, 2)
    (axes,) = roc_curves({"network": (labels, scores), "multiplicity": (labels, multiplicity)}).axes
    (dots,) = (np.array(line.get_data()) for line in axes.get_lines() if line.get_marker() == ".")
    assert dots.shape == (2, 5)
    eps_s, eps_b = (np.mean(multiplicity[labels == k] >= 2) for k in (1, 0))
    np.testing.assert_allclose(dots[:, -1], [eps_s, 1 / eps_b])


def many_classes(count, classes, separation=1.0):
    rng = np.random.default_rng(2)
    labels = np.arange(count) % classes
    return labels, rng.normal(0, 1, (count, classes)) + separation * np.eye(classes)[labels]


def test_class_roc_curves_are_rejections_of_the_first_class():
    labels, scores = many_classes(1500, 3)
    (axes,) = class_roc_curves(labels, scores, ["QCD", "Z", "top"], {"top": 0.7}).axes
    for index, name, at in ((1, "Z", 0.5), (2, "top", 0.7)):
        expected = background_rejection(labels, scores, at, index, background=0)
        eps_s, rejection = drawn(axes, f"{name}: {str(expected).replace('+-', '±')} at {at}")
        assert rejection[np.isclose(eps_s, at)] == pytest.approx(expected.value)
        other = background_rejection(labels, scores, 0.3, index, background=0)
        assert rejection[np.isclose(eps_s, 0.3)] == pytest.approx(other.value)
        circles = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "o"]
        assert [[at, expected.value]] in circles
    assert axes.get_ylabel().startswith("rejection of QCD")
    # The frame holds every point of a curve that at least one background jet passes.
    assert axes.get_ylim()[1] == pytest.approx(2 * np.count_nonzero(labels == 0))


def test_many_classes_have_distinct_styles():
    labels, scores = many_classes(400, 20)
    (axes,) = class_roc_curves(labels, scores, [f"class {k}" for k in range(20)], {}).axes
    looks = {
        (line.get_color(), str(line._unscaled_dash_pattern)) for line in axes.get_lines() if line.get_marker() != "o"
    }
    assert len(looks) == 20  # 19 signals and the random guess


def test_confusion_is_normalised_by_row():
    labels = np.array([0] * 4 + [1] * 5 + [2] * 3)
    predicted = np.array([0, 0, 0, 1, 1, 1, 2, 2, 0, 2, 2, 0])
    (axes,) = confusion(labels, np.eye(3)[predicted], ["QCD", "Z", "top"]).axes
    expected = [["75", "25", "0"], ["20", "40", "40"], ["33", "0", "67"]]
    places = {text.get_position(): text.get_text() for text in axes.texts}
    assert [[places[column, row] for column in range(3)] for row in range(3)] == expected
    assert axes.images[0].get_array()[1].tolist() == pytest.approx([20, 40, 40])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["QCD", "Z", "top"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_numbers_of_the_confusion_have_enough_contrast():
    shares = np.arange(0, 101)
    for value in shares:  # one row of two classes each: value % right
        labels, predicted = np.zeros(100, int), (np.arange(100) >= value).astype(int)
        (axes,) = confusion(np.append(labels, 1), np.eye(2)[np.append(predicted, 1)], ["a", "b"]).axes
        image = axes.images[0]
        for text in axes.texts:
            column, row = text.get_position()
            cell = image.to_rgba(image.get_array())[row, column, :3]
            assert contrast(cell, matplotlib.colors.to_rgb(text.get_color())) > 4.5  # WCAG 2.1, level AA


def contrast(one, other):
    # Relative luminance of WCAG 2.1.
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("count", "separation"), [(4, 0.1), (50, 1.0), (300, 30.0)])
def test_extreme_samples_give_finite_axis_limits(count, separation, tmp_path):
    labels, scores = jets(count, separation)
    roc, histogram = roc_curves({"network": (labels, scores)}), score_histograms(labels, scores, ["gluon", "quark"])
    for figure in (roc, histogram):
        for axes in figure.axes:
            assert np.isfinite([*axes.get_xlim(), *axes.get_ylim()]).all()
    if separation > 10:
        assert "∞ at 0.5" in roc.axes[0].get_lines()[0].get_label()
    save_figure(roc, tmp_path / "roc")


@pytest.mark.parametrize(("separation", "scale"), [(0.7, "linear"), (3.0, "log")])
def test_score_histograms_have_unit_area_and_poisson_errors(separation, scale):
    labels, scores = jets(4000, separation)
    (axes,) = score_histograms(labels, scores, ["gluon", "quark"], signal=1).axes
    assert axes.get_yscale() == scale
    probability = 1 / (1 + np.exp(-scores[:, 1]))
    for k, stairs in enumerate(axes.patches):
        heights, edges, _ = stairs.get_data()
        assert np.sum(heights * np.diff(edges)) == pytest.approx(1)
        counts = np.histogram(probability[labels == k], edges)[0]
        np.testing.assert_allclose(heights, counts / 2000 / np.diff(edges))
        segments = axes.collections[k].get_segments()
        lengths = [top[1] - bottom[1] for bottom, top in segments]
        full = counts > 0
        np.testing.assert_allclose(lengths, (2 * np.sqrt(counts) / 2000 / np.diff(edges))[full])


def test_one_dimensional_scores_are_not_transformed():
    labels, scores = jets(400, 1.0)
    (axes,) = score_histograms(labels, scores[:, 1], ["gluon", "quark"]).axes
    assert axes.get_xlabel() == "score"
    assert axes.get_xlim() == pytest.approx((scores[:, 1].min(), scores[:, 1].max()))


def test_figures_are_saved_twice_reproducibly_and_leave_no_global_state(tmp_path):
    settings = dict(matplotlib.rcParams)
    for folder in ("a.1", "b"):  # a dot in the name is not a suffix
        save_figure(loss_curves(HISTORY), tmp_path / folder / "loss.v2")
    assert sorted(path.name for path in (tmp_path / "a.1").iterdir()) == ["loss.v2.pdf", "loss.v2.png"]
    assert (tmp_path / "a.1/loss.v2.png").read_bytes().startswith(b"\x89PNG")
    pdf = (tmp_path / "a.1/loss.v2.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert pdf == (tmp_path / "b/loss.v2.pdf").read_bytes()
    assert matplotlib.pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == settings
