import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import asinh, mp, mpf, sqrt

from iagraph.data import StoreError
from iagraph.data.readers.cartesian import MASSLESS, SPACELIKE, momentum_columns
from iagraph.kinematics import from_cartesian

mp.dps = 40


def convert(vectors):
    """The columns of (E, px, py, pz), shape [P, 4]."""
    energy, px, py, pz = np.atleast_2d(np.asarray(vectors)).T
    return momentum_columns(px, py, pz, energy, lambda i: f"particle {i}")


def test_hand_computed_particles():
    columns = convert([[13, 3, 4, 12], [13, 0, -5, -0.0], [3, -1, 0, 2]])
    assert columns["pt"].tolist() == [5, 5, 1]
    assert columns["mass"].tolist() == [0, 12, 2]
    np.testing.assert_allclose(columns["rapidity"], [np.log(25 / 5), 0, np.log(5) / 2], rtol=1e-7)
    np.testing.assert_allclose(columns["phi"], [np.arctan(4 / 3), -np.pi / 2, np.pi], rtol=1e-7)
    assert {column.dtype.name for column in columns.values()} == {"float32"}


def test_agrees_with_the_kinematics_of_the_models():
    rng = np.random.default_rng(0)
    px, py, pz = rng.normal(0, 30, (3, 1009))
    energy = np.sqrt(px**2 + py**2 + pz**2 + rng.uniform(0.5, 9, 1009) ** 2)
    expected = from_cartesian(*(torch.from_numpy(values) for values in (px, py, pz, energy)))
    columns = convert(np.column_stack([energy, px, py, pz]))
    for name, values in expected._asdict().items():
        np.testing.assert_allclose(columns[name], values, rtol=1e-7, atol=0)


component = st.floats(-1000, 1000, width=32)


@given(px=component, py=component, pz=component, mass=st.sampled_from([0, 0, 0.000511, 0.13957, 0.93827, 80.4]))
def test_float32_particles_are_recovered_within_rounding(px, py, pz, mass):
    if np.hypot(px, py) < 1e-3:
        return
    exact = sqrt(mpf(px) ** 2 + mpf(py) ** 2 + mpf(pz) ** 2 + mpf(mass) ** 2)
    energy = np.float32(float(exact))
    columns = {name: values[0] for name, values in convert(np.float32([[energy, px, py, pz]])).items()}
    if mass == 0:
        assert columns["mass"] == 0
    mt = sqrt(mpf(float(columns["mass"])) ** 2 + mpf(float(columns["pt"])) ** 2)
    y, phi = mpf(float(columns["rapidity"])), mpf(float(columns["phi"]))
    bound = 2**-24 * (1 + max(abs(y), mp.pi)) * mpf(float(energy)) * (1 + mpf(2) ** -20)
    assert abs(mt * mp.sinh(y) - mpf(pz)) < bound
    assert abs(columns["pt"] * mp.cos(phi) - mpf(px)) < bound
    assert abs(columns["pt"] * mp.sin(phi) - mpf(py)) < bound
    # A mass too small to be distinguished from zero changes the energy by less than rounding of E and p.
    assert abs(mt * mp.cosh(y) - mpf(float(energy))) < bound + (columns["mass"] == 0) * MASSLESS * mpf(float(energy))
    assert abs(y - asinh(mpf(pz) / mt)) < mpf(2) ** -23 * max(abs(y), mpf("1e-30"))


def test_masses_are_kept_where_they_exceed_rounding():
    energies = 1 + np.arange(-3, 5) * 2.0**-23  # neighbours in float32
    mass = convert([[energy, 1, 0, 0] for energy in energies])["mass"]
    assert mass[:5].tolist() == [0] * 5
    np.testing.assert_allclose(mass[5:], np.sqrt(energies[5:] ** 2 - 1), rtol=1e-6)


def test_energy_below_momentum_is_accepted_within_rounding():
    assert convert([[1 - 0.99 * SPACELIKE, 0.6, 0, 0.8]])["mass"] == 0
    with pytest.raises(StoreError, match=r"particle 1: E = 0\.999998\d* GeV is below \|p\| = 1 GeV by more than round"):
        convert([[1, 0.6, 0, 0.8], [1 - 4 * SPACELIKE, 0.6, 0, 0.8]])


def test_float64_follows_the_same_rule():
    vectors = np.array([[10, 6, 0, 8], [10.01, 6, 0, 8]], np.float64)
    for name, values in convert(vectors).items():
        np.testing.assert_allclose(values, convert(vectors.astype(np.float32))[name], rtol=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(4))
def test_numbers_must_be_finite(value, column):
    vectors = np.array([[10, 6, 0, 8]] * 3, np.float32)
    vectors[2, column] = value
    with pytest.raises(StoreError, match=rf"particle 2: \(E, px, py, pz\) = .*{value}.* GeV, expected finite numbers"):
        convert(vectors)


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        ((0, 3, 0, 4), r"= \(0, 3, 0, 4\) GeV, expected finite numbers and E > 0; correct"),
        ((-5, 3, 0, 4), r"= \(-5, 3, 0, 4\) GeV, expected finite numbers and E > 0; correct"),
        ((5, 0, 0, -5), r"is along the beam"),
        ((13, 0, 0, 5), r"is along the beam"),
        ((5, 1e-60, 0, 5), r"is along the beam"),
    ],
)
def test_impossible_particles_are_named(vector, message):
    with pytest.raises(StoreError, match=rf"particle 1: .*{message}"):
        convert(np.array([(13, 3, 4, 12), vector, vector], np.float64))


def test_no_particles():
    columns = convert(np.zeros((0, 4), np.float32))
    assert [(name, values.shape) for name, values in columns.items()] == [
        (name, (0,)) for name in ("pt", "rapidity", "phi", "mass")
    ]
