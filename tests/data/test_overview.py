import numpy as np
import pytest
from data.conftest import numbered_jets

from iagraph.data import Jets, overview
from iagraph.data.overview import Overview


def jets_of(momenta, label=(0,), pid=None):
    """One jet for each list of (pt, rapidity, phi, mass)."""
    columns = np.array([particle for jet in momenta for particle in jet], np.float32).reshape(-1, 4).T
    particles = dict(zip(("pt", "rapidity", "phi", "mass"), columns, strict=True))
    if pid is not None:
        particles["pid"] = np.array(pid, np.int32)
    offsets = np.cumsum([0, *map(len, momenta)])
    return Jets(particles, offsets, np.array(label, np.int64), ("a", "b"))


def test_numbers_by_hand():
    # Two massless particles back to back in phi have no transverse momentum and the mass of their energies.
    back_to_back = [(30, 0, 0, 0), (10, 0, np.pi, 0)]
    single = [(50, 1, 2, 7)]
    seen = Overview(("a", "b"))
    seen.add(jets_of([back_to_back, [], single], (0, 0, 1), [211, -211, 22]))
    table = seen.table()
    # pT = 20, mass = sqrt(40^2 - 20^2)
    assert "| a | 1 | 2.0 (2 to 2) | 20.0 (20.0 to 20.0) | 34.6 (34.6 to 34.6) |" in table
    assert "| b | 1 | 1.0 (1 to 1) | 50.0 (50.0 to 50.0) | 7.0 (7.0 to 7.0) |" in table
    assert "1 jets have no particles" in table
    assert "species: π± 66.7%, γ 33.3%" in table
    assert (seen.jets, seen.particles) == (3, 3)


def test_parts_equal_the_whole():
    jets = numbered_jets(np.random.default_rng(0).integers(0, 9, 83))
    whole, parts = Overview(jets.classes), Overview(jets.classes)
    whole.add(jets)
    for begin in range(0, 83, 7):
        parts.add(jets.part(begin, min(begin + 7, 83)))
    assert parts.table() == whole.table()
    for one, other in zip(parts._kept, whole._kept, strict=True):
        np.testing.assert_array_equal(one, other)


def test_drawn_sample_is_bounded_and_uniform(monkeypatch):
    monkeypatch.setattr(overview, "SAMPLE", 400)
    seen = Overview(("gluon", "quark"))
    for first in range(0, 6000, 30):
        seen.add(numbered_jets([1] * 30, first=first))  # the classes take turns
        assert len(seen._kept[0]) <= 400
    kept = seen._kept[0]
    assert len(kept) > 200
    assert np.abs(np.histogram(kept, 6, (0, 6000))[0] - len(kept) / 6).max() < 0.2 * len(kept) / 6
    assert abs(len(seen.values("gluon")) - len(seen.values("quark"))) < 0.1 * len(kept)
    assert "| gluon | 3,000 |" in seen.table()


@pytest.mark.parametrize(
    "jets", [jets_of([[]]), jets_of([[(1, 0, 0, 0)]]), jets_of([], ())], ids=["empty", "one", "no"]
)
def test_few_jets_are_plotted(jets, tmp_path, drawn):
    seen = Overview(jets.classes)
    seen.add(jets)
    seen.figure().savefig(tmp_path / "overview.png")
    assert seen.table()


def test_figure_has_a_unit_area_line_per_class():
    jets = numbered_jets(np.random.default_rng(0).integers(1, 9, 83))
    seen = Overview(jets.classes)
    seen.add(jets)
    panels = seen.figure().axes
    for axes in panels[:4]:
        assert len(axes.patches) == 2
    multiplicity = panels[0].patches[1].get_data()
    counts = jets.counts[jets.label == 1]
    expected = np.histogram(counts, multiplicity.edges)[0] / len(counts)
    np.testing.assert_allclose(multiplicity.values, expected)
    assert multiplicity.values.sum() == pytest.approx(1)
    spectrum = panels[4].patches[0].get_data()
    mine = jets.particles["pt"][np.repeat(jets.label == 0, jets.counts)]
    expected = np.histogram(mine, spectrum.edges)[0]
    np.testing.assert_allclose(spectrum.values, expected / expected.sum())
