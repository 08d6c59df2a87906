from pathlib import Path

import pytest
from matplotlib.figure import Figure

from iagraph.plotting import figure_files, save_figure


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


def test_exactly_these_files_are_written(tmp_path):
    save_figure(Figure(), tmp_path / "new" / "cost_v1.2.png")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"cost_v1.2.png", "cost_v1.2.pdf"}
