from pathlib import Path

import numpy as np
import pytest
from data.conftest import numbered_jets
from matplotlib.figure import Figure

from iagraph.data import Jets
from iagraph.data.comparison import Comparison
from iagraph.data.overview import Overview
from iagraph.plotting import drawable, figure_files, save_figure
from iagraph.train.figures import class_roc_curves, confusion, roc_curves, score_histograms

pytestmark = pytest.mark.usefixtures("drawn")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("qg", "qg"),
        ("qg.h5", "qg"),
        ("qg.png", "qg"),
        ("qg.pdf", "qg"),
        ("qg_v1.2", "qg_v1.2"),
        ("qg_v1.2.h5", "qg_v1.2"),
        ("qg.h5.png", "qg.h5"),
        ("runs.d/top_k=0.3", "runs.d/top_k=0.3"),
    ],
)
def test_only_known_endings_are_replaced(name, stem):
    assert figure_files(name) == figure_files(Path(name)) == (Path(f"{stem}.png"), Path(f"{stem}.pdf"))


def test_saved_files_are_exactly_these(tmp_path):
    save_figure(Figure(), tmp_path / "new" / "cost_v1.2.png")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"cost_v1.2.png", "cost_v1.2.pdf"}


NAMES = (r"$\PH\to\bbbar$", "_b $ _", r"$H \to b\bar{b}$", "t\udcffW\n%&^{")


def test_valid_formulas_are_typeset_and_others_kept_as_text():
    assert drawable("$p_T$ cut") == "$p_T$ cut"
    assert drawable(r"$\PH\to\bbbar$") == r"\$\PH\to\bbbar\$"
    assert drawable("a $ b") == r"a \$ b"
    assert drawable("quark_b") == "quark_b"
    assert drawable("\udcff\t") == r"\udcff\t"
    assert drawable("_b") == "\u200b_b"


def test_lines_are_checked_one_by_one(tmp_path, caplog):
    figure = Figure()
    figure.text(0.5, 0.5, "AUC = 0.9\n$1/\\varepsilon_B$ = 10")
    save_figure(figure, tmp_path / "figure")
    assert drawable("a\n$p_T$") == "a\n$p_T$"
    assert not caplog.records


def legend(figure):
    return [text.get_text() for each in (*figure.legends, figure.axes[0].get_legend()) if each for text in each.texts]


def test_any_name_can_be_drawn(tmp_path):
    labels = np.arange(80) % 4
    scores = np.random.default_rng(1).normal(size=(80, 4))
    parts = [numbered_jets([3, 2, 5, 4, 3, 2, 4, 5])] * 2
    overviews = {}
    for name, part in zip((NAMES[0], "_other"), parts, strict=True):
        overviews[name] = overview = Overview(NAMES)
        overview.add(Jets(part.particles, part.offsets, np.arange(8) % 4, NAMES))
    figures = {
        "roc": roc_curves(dict.fromkeys(NAMES, (labels % 2, scores[:, 0]))),
        "classes": class_roc_curves(labels, scores, NAMES, {}),
        "confusion": confusion(labels, scores, NAMES),
        "scores": score_histograms(labels, scores, NAMES),
        "overview": overviews["_other"].figure(),
        "comparison": Comparison(overviews).figure(),
    }
    for name, figure in figures.items():
        save_figure(figure, tmp_path / name)
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000
    entries = {"roc": 5, "classes": 4, "scores": 4, "overview": 4, "comparison": 2}
    assert {name: len(legend(figures[name])) for name in entries} == entries


@pytest.mark.parametrize("name", NAMES)
def test_unprepared_figures_are_saved(tmp_path, name):
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], label=f"x{name}")
    axes.set(title=name, xlabel=name, ylabel=r"$p_T$")
    axes.set_xticks([1, 2], [name.encode(errors="replace").decode()] * 2)
    axes.legend()
    save_figure(figure, tmp_path / "figure")
    assert (tmp_path / "figure.pdf").stat().st_size > 1000
    assert axes.yaxis.label.get_parse_math()
