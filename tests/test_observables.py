import itertools
import math
import sys

import pytest
import torch

from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta
from iagraph.observables import (
    LABELS,
    energy_correlations,
    mass,
    multiplicity,
    nsubjettiness,
    observables,
    pt_dispersion,
    width,
)
from iagraph.testing import assert_boost_invariant, random_jets

COUNTS = [7, 0, 1, 13, 2, 3]


def jet(*particles):
    """One jet of massless particles (pt, y, phi)."""
    pt, y, phi = torch.tensor(particles, dtype=torch.float64).t()
    return JetBatch(Momenta(pt, y, phi, torch.zeros_like(pt)), torch.tensor([0, len(particles)]))


TRIANGLE = jet((50.0, 0.0, 0.0), (30.0, 0.3, 0.0), (20.0, 0.0, 0.4))  # sides 0.3, 0.4, 0.5


def test_jets_in_slots_are_refused():
    for observable in (multiplicity, mass, width, pt_dispersion, energy_correlations, observables):
        with pytest.raises(TypeError, match="observables of jets in slots would count padding"):
            observable(random_jets([3, 1, 0]).padded())


def test_numbers_of_axes():
    pytest.importorskip("fastjet")
    with pytest.raises(ValueError, match=r"at least one axis, found \[1, 0\]"):
        nsubjettiness(TRIANGLE, (1, 0))


def test_energy_correlations_by_hand():
    e2 = 0.5 * 0.3 * 0.3 + 0.5 * 0.2 * 0.4 + 0.3 * 0.2 * 0.5
    e3 = 0.5 * 0.3 * 0.2 * (0.3 * 0.4 * 0.5)
    found = energy_correlations(TRIANGLE)
    assert [value.item() for value in found] == pytest.approx([e2, e3, e3 / e2**2, e3 / e2**3], rel=1e-12)
    squared = energy_correlations(TRIANGLE, beta=2.0)
    assert squared.e2.item() == pytest.approx(0.15 * 0.09 + 0.1 * 0.16 + 0.06 * 0.25, rel=1e-12)
    assert squared.e3.item() == pytest.approx(0.03 * 0.06**2, rel=1e-12)


def test_energy_correlations_equal_sums_over_pairs_and_triples():
    jets = random_jets([11], 3).double()
    pt, y, phi, _ = (component.tolist() for component in jets.momenta)
    z = [value / sum(pt) for value in pt]

    def distance(i, j):
        turn = abs(phi[i] - phi[j])
        return math.hypot(y[i] - y[j], min(turn, 2 * math.pi - turn))

    e2 = sum(z[i] * z[j] * distance(i, j) for i, j in itertools.combinations(range(11), 2))
    e3 = sum(
        z[i] * z[j] * z[k] * distance(i, j) * distance(j, k) * distance(k, i)
        for i, j, k in itertools.combinations(range(11), 3)
    )
    found = energy_correlations(jets)
    assert found.e2.item() == pytest.approx(e2, rel=1e-12)
    assert found.e3.item() == pytest.approx(e3, rel=1e-12)


def test_shapes_by_hand():
    two = jet((60.0, 0.5, 3.1), (40.0, 0.5, -3.1))
    apart = 2 * (math.pi - 3.1)
    assert mass(two).item() == pytest.approx(math.sqrt(2 * 60 * 40 * (1 - math.cos(apart))), rel=1e-9)
    assert multiplicity(two).tolist() == [2]
    assert pt_dispersion(two).item() == pytest.approx(math.hypot(60, 40) / 100, rel=1e-12)
    turn = math.atan2(40 * math.sin(apart), 60 + 40 * math.cos(apart))  # of the axis, from the harder particle
    # The two are massless and of one rapidity, which is that of their sum.
    assert width(two).item() == pytest.approx((60 * turn + 40 * (apart - turn)) / 100, rel=1e-9)


def test_nsubjettiness_by_hand():
    pytest.importorskip("fastjet")
    tau = nsubjettiness(TRIANGLE, (1, 2, 3, 4), radius=0.5)[0]
    # kT distances: min(pt)^2 R^2 of the pairs are 81, 64 and 100: the first and the last particle merge.
    phi = math.atan2(20 * math.sin(0.4), 50 + 20 * math.cos(0.4))
    two = (50 * phi + 20 * (0.4 - phi)) / (100 * 0.5)
    assert tau[1].item() == pytest.approx(two, rel=1e-9)
    assert tau[2:].tolist() == [0, 0]
    axis_phi = math.atan2(20 * math.sin(0.4), 80 + 20 * math.cos(0.4))
    mt = math.sqrt((50 * 1 + 30 * math.cosh(0.3) + 20) ** 2 - (30 * math.sinh(0.3)) ** 2)
    axis_y = math.asinh(30 * math.sinh(0.3) / mt)
    places = ((50, 0, 0), (30, 0.3, 0), (20, 0, 0.4))
    one = sum(pt * math.hypot(y - axis_y, phi - axis_phi) for pt, y, phi in places) / (100 * 0.5)
    assert tau[0].item() == pytest.approx(one, rel=1e-9)


def test_two_prongs_have_small_tau21_and_d2():
    pytest.importorskip("fastjet")
    values = []
    for spread in (0.1, 0.01, 0.001):
        prongs = [(50.0, 0.0, 0.0), (3.0, spread, 0.0), (40.0, 0.5, 0.2), (2.0, 0.5, 0.2 + spread)]
        found = observables(jet(*prongs))
        values.append((found["tau21"].item(), found["d2"].item()))
    for (tau, d2), (next_tau, next_d2) in itertools.pairwise(values):
        assert next_tau == pytest.approx(tau / 10, rel=0.2)
        assert next_d2 == pytest.approx(d2 / 10, rel=0.2)


def test_three_prongs_have_small_tau32():
    pytest.importorskip("fastjet")
    prongs = [(50.0, 0.0, 0.0), (40.0, 0.5, 0.2), (30.0, -0.4, 0.4), (1.0, -0.4, 0.401)]
    found = observables(jet(*prongs))
    assert found["tau32"].item() < 1e-3 < 0.1 < found["tau21"].item()


def test_few_particles():
    pytest.importorskip("fastjet")
    found = observables(random_jets([1, 0, 2], 5))
    assert set(found) == set(LABELS)
    for name, (one, none, two) in ((name, values.tolist()) for name, values in found.items()):
        if name in ("e2", "e3"):
            assert (one, none) == (0, 0)
        elif name in ("c2", "d2", "tau21", "tau32"):
            assert math.isnan(one)
            assert math.isnan(none)
        elif name in ("ptd", "width", "tau1", "tau2", "tau3"):
            assert one == pytest.approx(1 if name == "ptd" else 0, abs=1e-12)
            assert math.isnan(none)
        else:
            assert none == 0
        assert math.isfinite(two) != (name == "tau32")  # tau2 of two particles is zero


def test_no_jets():
    assert {len(values) for values in observables(random_jets([3]).part(0, 0)).values()} == {0}


def test_invariance():
    jets = random_jets(COUNTS, 7).double()

    def finite(jets):
        return torch.stack(list(observables(jets).values())).nan_to_num(nan=-1.0)

    assert_boost_invariant(finite, jets, 1e-9)


def test_observables_do_not_depend_on_other_jets():
    jets = random_jets(COUNTS, 8)
    for name, values in observables(jets).items():
        alone = torch.cat([observables(jets.part(place, place + 1))[name] for place in range(len(jets))])
        torch.testing.assert_close(values, alone, rtol=1e-12, atol=0, equal_nan=True)


def test_without_fastjet(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastjet", None)
    jets = random_jets(COUNTS, 9)
    assert nsubjettiness(jets, (1,)) is None
    assert set(observables(jets)) == {name for name in LABELS if not name.startswith("tau")}
