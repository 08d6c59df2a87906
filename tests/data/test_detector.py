import math

import numpy as np
import pytest

from iagraph.data.detector import ATLAS, CMS, CURVATURE, MASS, Particles, _closest_to_beam, _propagate

PION, KAON, PHOTON, NEUTRON, ELECTRON, MUON = 211, 321, 22, 2112, 11, 13
EXACT = np.array([[5.0, 0.0, 0.0, 0.0]])
DEGREE = math.pi / 180
BLIND = ATLAS.hcal._replace(takes={}, rest=0.0)


def particles(*rows):
    """Massless particles (event, pid, energy, eta, phi), with or without a vertex (x, y, z) in mm."""
    event, pid, energy, eta, phi, x, y, z = np.array([[*row, 0, 0, 0][:8] for row in rows], dtype=float).T
    pt = energy / np.cosh(eta)
    momenta = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy
    return Particles(event.astype(int), pid.astype(int), *momenta, x, y, z)


def alike(number, pid, energy, eta, phi=0.1):
    """One such particle in each of a number of events."""
    return particles(*((event, pid, energy, eta, phi) for event in range(number)))


class Median:
    """A generator of medians: tracks are found, log-normal numbers are below their means, objects in tower centres."""

    def random(self, shape):
        return np.full(shape, 0.5)

    def standard_normal(self, shape):
        return np.zeros(shape)


@pytest.fixture
def generator():
    return np.random.default_rng(5)


def perfect(detector=ATLAS, threshold=0.0):
    """The detector without smearing or thresholds."""
    ecal, hcal = (
        part._replace(resolution=EXACT, energy_min=threshold, significance_min=0.0)
        for part in (detector.ecal, detector.hcal)
    )
    tracker = detector.tracker
    tracker = tracker._replace(
        efficiency=np.ones_like(tracker.efficiency), resolution=np.zeros_like(tracker.resolution), field=0.01
    )
    return detector._replace(tracker=tracker, ecal=ecal, hcal=hcal)


def test_hand_computed_towers():
    # Towers of 0.1 x 10 degrees. Centres of towers by the medians.
    seen = perfect().observe(
        particles(
            (0, PHOTON, 10, 0.11, 31 * DEGREE),
            (0, PHOTON, 4, 0.19, 39 * DEGREE),  # same tower
            (0, PHOTON, 3, 0.21, 39 * DEGREE),  # next ring
            (0, PHOTON, 2, 0.11, 29 * DEGREE),  # next cell
            (0, NEUTRON, 20, 0.11, 31 * DEGREE),  # the same towers of the other calorimeter
            (0, 130, 5, 0.19, 39 * DEGREE),
            (1, NEUTRON, 7, 0.19, 39 * DEGREE),  # next event
            (3, NEUTRON, 6, -0.01, -179 * DEGREE),
            (3, MUON, 9, 1.0, 1.0),
            (3, PHOTON, 1, 2.6, 19 * DEGREE),  # 0.2 x 20 degrees
            (3, PHOTON, 1, -2.6, -19 * DEGREE),
        ),
        Median(),
    )
    assert seen.event.tolist() == [0, 0, 0, 0, 1, 3, 3, 3, 3]
    energy = seen.pt * np.cosh(seen.eta)
    order = np.lexsort((seen.phi, -energy.round(6), seen.event))
    assert seen.pid[order].tolist() == [130, PHOTON, PHOTON, PHOTON, 130, MUON, 130, PHOTON, PHOTON]
    assert energy[order] == pytest.approx([25, 14, 3, 2, 7, 9, 6, 1, 1])
    assert seen.eta[order] == pytest.approx([0.15, 0.15, 0.25, 0.15, 0.15, 1.0, -0.05, -2.6, 2.6])
    degrees = [35, 35, 35, 25, 35, 1 / DEGREE, -175, -10, 10]
    assert seen.phi[order] == pytest.approx([angle * DEGREE for angle in degrees])


def test_hand_computed_towers_of_cms():
    # Electromagnetic towers of 0.0174 x 1 degree to 2.958, hadronic ones of 0.087 x 5 degrees to 1.653; wider beyond.
    seen = perfect(CMS).observe(
        particles(
            (0, PHOTON, 10, 0.0175, 30.1 * DEGREE),
            (0, PHOTON, 4, 0.0340, 30.9 * DEGREE),  # same tower
            (0, PHOTON, 3, 0.0349, 30.9 * DEGREE),  # next ring
            (0, PHOTON, 2, 0.0175, 29.9 * DEGREE),  # next cell
            (0, NEUTRON, 20, 0.01, 31 * DEGREE),
            (0, 130, 5, -0.01, 31 * DEGREE),
            (1, NEUTRON, 7, 1.64, 34 * DEGREE),
            (1, NEUTRON, 6, 1.66, 34 * DEGREE),  # 0.087 x 10 degrees
            (1, NEUTRON, 5, 4.6, 34 * DEGREE),  # 0.175 x 20 degrees
            (1, PHOTON, 1, -3.0, 34 * DEGREE),  # 0.167 x 10 degrees
        ),
        Median(),
    )
    energy = seen.pt * np.cosh(seen.eta)
    order = np.lexsort((-energy.round(6), seen.event))
    assert energy[order] == pytest.approx([20, 14, 5, 3, 2, 7, 6, 5, 1])
    centres = [0.0435, 0.0261, -0.0435, 0.0435, 0.0261, 1.6095, 1.6965, 4.6125, -3.0415]
    assert seen.eta[order] == pytest.approx(centres)
    degrees = [32.5, 30.5, 32.5, 30.5, 29.5, 32.5, 35, 30, 35]
    assert seen.phi[order] == pytest.approx([angle * DEGREE for angle in degrees])


def test_tracks_of_cms_have_the_energy_of_their_tower():
    # A pion of 20 GeV has the energy of its tower, the median of a log-normal number; one below the minimum of the
    # calorimeter is lost; a muon, which leaves no energy, keeps that of its track.
    eta, true = 0.05, 20.0
    sigma = math.sqrt((0.05 * true) ** 2 + 1.5**2 * true)
    tower = true / math.sqrt(1 + (sigma / true) ** 2)
    seen = CMS.observe(
        particles((0, PION, true, eta, 0.1), (1, PION, 0.9, eta, 0.1), (2, MUON, 0.9, eta, 0.1)), Median()
    )
    assert seen.pid.tolist() == [PION, MUON]
    momentum = math.sqrt(tower**2 - MASS[PION] ** 2)
    assert seen.pt * np.cosh(seen.eta) == pytest.approx([momentum, 0.9], rel=1e-4)
    assert seen.mass.tolist() == [MASS[PION], MASS[MUON]]


def test_energy_flow_adds_the_excess_to_tracks():
    seen = perfect(threshold=1.0).observe(
        particles(
            (0, PION, 10, 0.31, 0.1),
            (0, NEUTRON, 5, 0.33, 0.1),  # the excess
            (0, PHOTON, 2, 0.31, 0.1),
            (2, -ELECTRON, 10, 0.31, 0.1),
            (2, PHOTON, 3, 0.31, 0.1),
        ),
        Median(),
    )
    energy = seen.pt * np.cosh(seen.eta)
    found = sorted(zip(seen.event.tolist(), seen.pid.tolist(), energy.round(6).tolist(), strict=True))
    assert found == [(0, 22, 2.0), (0, 130, 5.0), (0, 211, 10.0), (2, -11, 10.0), (2, 22, 3.0)]


def test_tracks_of_atlas_keep_their_energy():
    # The medians of log-normal numbers of relative widths hypot(0.06, 0.0013 pT) and sigma(20) / 20: the tower has less
    # than the track.
    eta, true = 0.05, 20.0
    track = true / math.sqrt(1 + math.hypot(0.06, 0.0013 * true / math.cosh(eta)) ** 2)
    seen = ATLAS.observe(alike(1, PION, true, eta), Median())
    assert seen.pid.tolist() == [PION]
    assert seen.pt * np.cosh(seen.eta) == pytest.approx([track])
    assert (seen.eta, seen.phi) == (pytest.approx([eta]), pytest.approx([0.1]))


@pytest.mark.parametrize(("scaled", "neutral"), [(False, True), (True, False)])
def test_an_excess_is_significant_beside_its_own_error_or_that_of_the_tower(scaled, neutral):
    # Without smearing, 5 GeV beyond a track of 95 GeV, with errors of 10 % of the energy: 0.5 GeV, and 10 GeV of the
    # tower. Scaled, the track has the energy of the tower instead.
    detector = perfect()
    hcal = detector.hcal._replace(resolution=np.array([[5.0, 0.1, 0.0, 0.0]]), significance_min=2.0)
    detector = detector._replace(tracker=detector.tracker._replace(scaled=scaled), hcal=hcal)
    tower = 100 / math.sqrt(1 + 0.1**2)  # the median
    seen = detector.observe(particles((0, PION, 95, 0.31, 0.1), (0, NEUTRON, 5, 0.33, 0.1)), Median())
    energy = dict(zip(seen.pid.tolist(), seen.pt * np.cosh(seen.eta), strict=True))
    expected = {PION: 95.0, 130: tower - 95} if neutral else {PION: tower}
    assert energy == pytest.approx(expected)


@pytest.mark.parametrize("charge", [1, -1])
def test_paths_equal_those_of_small_steps(generator, charge):
    tracker, number = ATLAS.tracker, 60
    rows = zip(
        np.full(number, charge * PION),
        generator.uniform(0.2, 3, number),
        generator.choice([-1, 1], number) * generator.uniform(0.3, 2.5, number),
        generator.uniform(-3, 3, number),
        *generator.normal(0, 100, (2, number)),
        generator.normal(0, 300, number),
        strict=True,
    )
    some = particles(*((0, *row) for row in rows))
    _, eta, phi = _propagate(some, tracker)
    x, y, z = (np.array(column) / 1000 for column in (some.x, some.y, some.z))
    px, py, inside, step = some.px.copy(), some.py.copy(), np.ones(number, bool), 5e-4  # m
    turn = -charge * step * 0.299792458 * tracker.field / np.hypot(px, py)
    ends = 0
    for _ in range(30_000):
        # Half a turn before and after each step: second order.
        for half in range(2):
            px, py = px * np.cos(turn / 2) - py * np.sin(turn / 2), px * np.sin(turn / 2) + py * np.cos(turn / 2)
            if half == 0:
                pt = np.hypot(px, py)
                x, y, z = (
                    np.where(inside, place + step * momentum / pt, place)
                    for place, momentum in ((x, px), (y, py), (z, some.pz))
                )
        over = np.abs(z) >= tracker.half_length
        ends = ends + (over & inside).sum()
        inside &= ~over & (np.hypot(x, y) < tracker.radius)
        if not inside.any():
            break
    assert not inside.any()
    assert 5 < ends < number - 5  # some leave through the ends, some through the side
    assert np.arcsinh(z / np.hypot(x, y)) == pytest.approx(eta, abs=0.01)
    assert np.cos(np.arctan2(y, x) - phi) == pytest.approx(np.ones(number), abs=1e-4)


def test_impact_parameters_by_hand():
    # Nearly straight tracks of 500 GeV: d0 = (x py - y px) / pT, dz = z - sinh(eta) (x px + y py) / pT.
    slope = math.sinh(0.5)
    seen = CMS._replace(ecal=BLIND, hcal=BLIND).observe(
        particles(
            (0, PION, 500, 0.5, 0, 0, 1, 5),
            (0, PION, 500, 0.5, math.pi / 2, 2, 0, 5),
            (0, -PION, 500, 0.5, math.pi / 2, 2, 3, 5),
            (0, -MUON, 500, 0.5, 0, 0, 0, 0),
        ),
        Median(),
    )
    d0, d0_error, dz, dz_error = seen.impact
    assert d0 == pytest.approx([-1, 2, 2, 0], abs=1e-4)
    assert dz == pytest.approx([5, 5, 5 - 3 * slope, 0], abs=1e-4)
    assert d0_error == pytest.approx([0.0096] * 4, rel=0.1)
    assert dz_error == pytest.approx([0.0286] * 4, rel=0.1)
    assert not ATLAS.observe(alike(3, PION, 50.0, 0.5), Median()).impact.any()


def test_impact_parameters_are_those_of_the_closest_point_of_the_path(generator):
    number, field = 40, CMS.tracker.field
    rows = zip(
        generator.choice([PION, -PION], number),
        generator.uniform(0.3, 3, number),
        generator.uniform(-1, 1, number),
        generator.uniform(-3, 3, number),
        *generator.normal(0, 20, (3, number)),
        strict=True,
    )
    some = particles(*((0, *row) for row in rows))
    d0, dz = _closest_to_beam(some, field)
    pt, steps = np.hypot(some.px, some.py), np.linspace(-200, 200, 40_001)[:, None]  # mm
    angle = np.arctan2(some.py, some.px) - np.sign(some.pid) * CURVATURE * field / pt * steps / 1000
    x, y = (np.cumsum(part(angle), axis=0) * 0.01 for part in (np.cos, np.sin))
    x, y = x - x[20_000] + some.x, y - y[20_000] + some.y
    nearest, columns = np.hypot(x, y).argmin(axis=0), np.arange(number)
    px, py = (part(angle)[nearest, columns] for part in (np.cos, np.sin))
    assert d0 == pytest.approx(x[nearest, columns] * py - y[nearest, columns] * px, abs=0.02)
    assert dz == pytest.approx(some.z + some.pz / pt * steps[nearest, 0], abs=0.03)
    assert np.abs(d0).max() > 10


def test_errors_of_impact_parameters_are_measured_back(generator):
    number = 20_000
    seen = CMS._replace(ecal=BLIND, hcal=BLIND).observe(alike(number, PION, 5.0 * math.cosh(2.0), 2.0), generator)
    for value, error, (a, b, c) in zip(seen.impact[::2], seen.impact[1::2], CMS.tracker.impact[:, 2], strict=True):
        assert np.median(error) == pytest.approx(a + b * 5.0**-c, rel=0.05)
        assert value.mean() == pytest.approx(0, abs=4 * error.mean() / math.sqrt(number))
        assert (value / error).std() == pytest.approx(1, rel=0.03)


def test_ends_of_paths_by_hand():
    # A pion of 1 GeV: r = 1 / (0.2998 x 2) m; from the origin, it is seen at phi - asin(R / 2r). At 0.3 GeV it curls to
    # the end. A photon from (0, 0.69, 0) m along x meets the side at (0.92, 0.69): 0.92^2 + 0.69^2 = 1.15^2.
    half = math.asin(1.15 * 0.299792458 * 2 / 2)
    some, eta, phi = _propagate(
        particles(
            (0, PION, 1, 0, 0.5),
            (0, -PION, 1, 0, 0.5),
            (0, PION, 0.3 * math.cosh(0.2), 0.2, 0.5),
            (0, PHOTON, 1, 0, 0, 0, 690, 0),
            (0, PHOTON, 1, 2.5, 0.7),
            (0, PHOTON, 1, 0, 0, 0, 1151, 0),  # born outside
            (0, PHOTON, 1, 0, 0, 0, 0, -3511),
        ),
        ATLAS.tracker,
    )
    assert len(some.event) == 5
    assert phi[[0, 1, 3, 4]] == pytest.approx([0.5 - half, 0.5 + half, math.atan2(0.69, 0.92), 0.7])
    assert eta[[0, 1, 3, 4]] == pytest.approx([0, 0, 0, 2.5], abs=1e-9)
    assert eta[2] > 1.8  # at the end, 3.51 m, within 1.15 m of the beam


@pytest.mark.parametrize(
    ("pid", "pt", "eta", "efficiency"),
    [
        (PION, 0.6, 0.5, 0.70),
        (PION, 0.6, 2.0, 0.60),
        (-KAON, 5.0, 0.5, 0.95),
        (2212, 5.0, -2.0, 0.85),
        (ELECTRON, 50.0, 0.5, 0.95),
        (ELECTRON, 200.0, 2.0, 0.90),
        (-MUON, 0.9, -2.0, 0.70),
        (MUON, 5.0, 0.5, 0.99),
        (PION, 5.0, 2.6, 0.0),
    ],
)
def test_efficiencies_and_resolutions_of_tracks_are_measured_back(generator, pid, pt, eta, efficiency):
    number = 20_000
    seen = ATLAS._replace(ecal=BLIND, hcal=BLIND).observe(alike(number, pid, pt * math.cosh(eta), eta), generator)
    error = math.sqrt(efficiency * (1 - efficiency) / number)
    assert len(seen.pt) / number == pytest.approx(efficiency, abs=4 * error)
    if efficiency:
        row = {ELECTRON: 1, MUON: 2}.get(abs(pid), 0)
        a, b = ATLAS.tracker.resolution[row, 2 if abs(eta) > 1.5 else 1]
        relative = math.hypot(a, b * pt)
        assert seen.pt.mean() == pytest.approx(pt, rel=4 * relative / math.sqrt(len(seen.pt)))
        assert seen.pt.std() == pytest.approx(relative * pt, rel=0.06)
        expected = pid if row else math.copysign(PION, pid)
        assert set(seen.pid.tolist()) == {expected}
        assert seen.eta == pytest.approx(np.full(len(seen.pt), eta))


@pytest.mark.parametrize(
    ("detector", "pid", "energy", "eta", "sigma"),
    [
        (ATLAS, PHOTON, 50.0, 0.15, math.sqrt((0.0017 * 50) ** 2 + 0.101**2 * 50)),
        (ATLAS, NEUTRON, 100.0, 0.55, math.sqrt((0.0302 * 100) ** 2 + 0.5205**2 * 100 + 1.59**2)),
        (ATLAS, 130, 100.0, -1.95, math.sqrt((0.05 * 100) ** 2 + 0.706**2 * 100)),
        # Centres of towers at 0.7917 and 1.9053.
        (CMS, PHOTON, 50.0, 0.8, (1 + 0.64 * 0.7917**2) * math.sqrt((0.008 * 50) ** 2 + 0.11**2 * 50 + 0.4**2)),
        (CMS, PHOTON, 50.0, -1.9, (2.16 + 5.6 * 0.0947**2) * math.sqrt((0.008 * 50) ** 2 + 0.11**2 * 50 + 0.4**2)),
        (CMS, NEUTRON, 100.0, 0.55, math.sqrt((0.05 * 100) ** 2 + 1.5**2 * 100)),
    ],
)
def test_resolutions_of_towers_are_measured_back(generator, detector, pid, energy, eta, sigma):
    number = 20_000
    seen = detector.observe(alike(number, pid, energy, eta), generator)
    measured = seen.pt * np.cosh(seen.eta)
    assert len(measured) == number
    assert measured.mean() == pytest.approx(energy, abs=4 * sigma / math.sqrt(number))
    assert measured.std() == pytest.approx(sigma, rel=0.03)


def test_soft_neutral_particles_are_lost(generator):
    # A photon of 0.45 GeV has 0.5 GeV only after an upward fluctuation by 0.7 sigma; a neutron must have two sigma.
    soft = [len(ATLAS.observe(alike(2000, PHOTON, energy, 0.1), generator).pt) / 2000 for energy in (0.3, 0.45, 0.8)]
    assert soft[0] < 0.02
    assert 0.15 < soft[1] < 0.35
    assert soft[2] > 0.95
    assert len(ATLAS.observe(alike(2000, NEUTRON, 2.0, 0.1), generator).pt) < 0.25 * 2000


@pytest.mark.parametrize("detector", [ATLAS, CMS], ids=["atlas", "cms"])
@pytest.mark.parametrize(("species", "tolerance"), [((PHOTON, NEUTRON), 0.01), ((PION, -PION, PHOTON, NEUTRON), 0.03)])
def test_energy_is_conserved_in_the_mean(generator, detector, species, tolerance):
    events, number = 300, 30
    total = events * number
    some = particles(
        *zip(
            np.repeat(np.arange(events), number),
            generator.choice(species, total),
            generator.exponential(20, total) + 5,
            generator.normal(0.5, 0.2, total),
            generator.normal(0.5, 0.2, total),
            strict=True,
        )
    )
    seen = detector.observe(some, generator)
    ratio = np.bincount(seen.event, seen.pt * np.cosh(seen.eta)) / np.bincount(some.event, some.energy)
    assert ratio.mean() == pytest.approx(1, abs=tolerance)
    assert 0.01 < ratio.std() < 0.1


@pytest.mark.parametrize("detector", [ATLAS, CMS], ids=["atlas", "cms"])
def test_objects_depend_only_on_the_seed(detector):
    some = alike(500, PION, 20.0, 0.3)
    one, same, other = (detector.observe(some, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.pt[:400], other.pt[:400])


def test_events_without_objects_are_allowed(generator):
    none = ATLAS.observe(particles((0, PHOTON, 0.1, 0.1, 0.1), (2, PION, 50.0, 6.0, 0.1)), generator)
    assert [column.shape[-1] for column in none] == [0] * 7
    assert len(ATLAS.observe(Particles(*(column[:0] for column in alike(1, PION, 1, 0))), generator).pt) == 0
