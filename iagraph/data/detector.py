r"""A fast detector: energy-flow objects from the particles of whole batches of events.

It follows the modules of Delphes (arXiv 1307.6346) with the numbers of its cards, without code of theirs: tracks in a
solenoid, two calorimeters of towers, and the energy flow of each. Arrays of all particles replace loops.

1. Particles travel from their vertices to a cylinder: on straight lines, or on helices of radius
   :math:`r = p_T / (0.2998\,B)`. Those born outside of it are lost. A tower is found from the end of the path.
2. Charged particles become tracks with an efficiency, and with a transverse momentum smeared by a relative width
   :math:`\sqrt{a^2 + b^2 p_T^2}`. Tracks have the direction at the vertex. Their impact parameters :math:`d_0`, signed
   as :math:`(x p_y - y p_x) / p_T`, and :math:`d_z = z` at the point closest to the beam are smeared by
   :math:`a + b\,p_T^{-c}`, which is stored as their error.
3. A tower measures the energy E of its deposits with :math:`\sigma_E^2 = c^2 E^2 + s^2 E + n^2`; below a minimum, or
   below :math:`k\,\sigma_E`, it measures 0.
4. Its tracks have the energy T. An excess :math:`N = \max(E - T, 0)` above the minimum and above :math:`k\,\sigma_N`,
   with :math:`\sigma_N` of a measured energy N, is a neutral object, at a random point of the tower, and tracks stay as
   they are. This is how the module ``Calorimeter`` works, which older cards use. With scaled tracks, as in the card of
   JetClass, the excess must be above :math:`k\,\sigma_E`, and otherwise the tracks of the tower are scaled to its
   energy E, and lost if that is 0.

Energies and momenta have log-normal smearing, so that they stay positive and means are kept.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

CHARGE = {11: -1, 13: -1, 211: 1, 321: 1, 2212: 1, 3112: -1, 3222: 1, 3312: -1, 3334: -1}
"""Charges of the particles with these PDG ids among those that may reach a detector; all others are neutral."""
MASS = {11: 0.000511, 13: 0.10566, 211: 0.13957, 321: 0.49368, 2212: 0.93827}
MASS |= {3112: 1.19745, 3222: 1.18937, 3312: 1.32171, 3334: 1.67245}
"""Their masses in GeV."""
ELECTRON, MUON, PHOTON, NEUTRAL_HADRON, CHARGED_HADRON = 11, 13, 22, 130, 211
CURVATURE = 0.299792458  # pT [GeV] = CURVATURE B [T] r [m]


class Particles(NamedTuple):
    """Particles of a batch of events: arrays of one length, event by event.

    ``event`` counts from 0; momenta and energies are in GeV, vertices ``x``, ``y``, ``z`` in mm; ``pid`` is the PDG id.
    """

    event: np.ndarray
    pid: np.ndarray
    px: np.ndarray
    py: np.ndarray
    pz: np.ndarray
    energy: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray


class Objects(NamedTuple):
    """Energy-flow objects, event by event: ``pt`` and ``mass`` in GeV, and as ``pid`` 22 for photons, 130 for neutral
    hadrons, and +-11, +-13 or +-211, signed by charge, for tracks.

    ``impact`` has the rows d0, its error, dz and its error in mm: 0 for neutral objects, and where the tracker measures
    none.
    """

    event: np.ndarray
    pid: np.ndarray
    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    mass: np.ndarray
    impact: np.ndarray


class Calorimeter(NamedTuple):
    r"""Rings of towers between the ``edges`` in eta, each with its number of ``cells`` in phi.

    ``takes`` has the fraction of the energy that it takes of each absolute PDG id, ``rest`` that of all others.
    ``resolution`` has rows (largest abs(eta), c, s [sqrt(GeV)], n [GeV]), and may have two more columns, q and
    :math:`\eta_0`, for a factor :math:`1 + q (|\eta| - \eta_0)^2`. An energy must exceed ``energy_min`` [GeV] and
    ``significance_min`` times its error.
    """

    edges: np.ndarray
    cells: np.ndarray
    takes: Mapping[int, float]
    rest: float
    resolution: np.ndarray
    energy_min: float
    significance_min: float

    def sigma(self, eta: np.ndarray, energy: np.ndarray) -> np.ndarray:
        """Error of a measured energy in GeV."""
        c, s, n, *rise = self.resolution[_bin(eta, self.resolution[:, 0]), 1:].T
        factor = 1 + rise[0] * (np.abs(eta) - rise[1]) ** 2 if rise else 1
        return factor * np.sqrt((c * energy) ** 2 + s**2 * energy + n**2)


class Tracker(NamedTuple):
    """A cylinder of ``radius`` and ``half_length`` [m] in a ``field`` [T], and tracks of hadrons, electrons and muons.

    ``efficiency`` is of shape [3, abs(eta), pT] with upper edges ``efficiency_eta`` and lower edges ``efficiency_pt``
    [GeV], the first of which is the lowest pT of a track; ``resolution`` holds (a, b [1/GeV]), of shape
    [3, abs(eta), 2], with upper edges ``resolution_eta``. There are no tracks beyond the last edge in eta.

    ``impact`` holds (a, b, c) of the errors of d0 and dz [mm], of shape [2, abs(eta), 3], with upper edges
    ``impact_eta``. Tracks are massless unless ``massive``. If ``scaled``, tracks of a tower without a neutral object
    have the energy of the tower.
    """

    radius: float
    half_length: float
    field: float
    efficiency_eta: np.ndarray
    efficiency_pt: np.ndarray
    efficiency: np.ndarray
    resolution_eta: np.ndarray
    resolution: np.ndarray
    impact_eta: np.ndarray = np.zeros(0)
    impact: np.ndarray = np.zeros((0, 0, 3))
    massive: bool = False
    scaled: bool = False


class Detector(NamedTuple):
    """A tracker inside two calorimeters, for electrons and photons and for hadrons."""

    tracker: Tracker
    ecal: Calorimeter
    hcal: Calorimeter

    def observe(self, particles: Particles, generator: np.random.Generator) -> Objects:
        """The energy-flow objects of a batch of events, without neutrinos; the same random state gives the same."""
        particles, eta, phi = _propagate(particles, self.tracker)
        seen, pt = _find_tracks(particles, eta, self.tracker, generator)
        track_eta = np.arcsinh(particles.pz / np.hypot(particles.px, particles.py))
        mass = _by_species(particles.pid, MASS) if self.tracker.massive else np.zeros(len(pt))
        energy = np.where(seen, np.hypot(pt * np.cosh(track_eta), mass), 0)
        impact = _measure_impact(particles, pt, track_eta, self.tracker, generator)
        hits = _Hits(particles.event, np.abs(particles.pid), particles.energy, eta, phi, energy)
        scaled = self.tracker.scaled
        photons, ecal_scale = _energy_flow(self.ecal, PHOTON, hits, scaled, generator)
        neutral_hadrons, hcal_scale = _energy_flow(self.hcal, NEUTRAL_HADRON, hits, scaled, generator)
        kind = np.where(np.isin(hits.species, (ELECTRON, MUON)), particles.pid, CHARGED_HADRON * _charge(particles.pid))
        track_phi, pt = np.arctan2(particles.py, particles.px), pt * ecal_scale * hcal_scale
        columns = particles.event, kind, pt, track_eta, track_phi, mass, impact
        tracks = Objects(*(column[..., seen & (pt > 0)] for column in columns))
        every = zip(tracks, photons, neutral_hadrons, strict=True)
        objects = Objects(*(np.concatenate(columns, axis=-1) for columns in every))
        order = np.argsort(objects.event, kind="stable")
        return Objects(*(column[..., order] for column in objects))


class _Hits(NamedTuple):
    """Where particles leave the tracker, and the energies of their tracks, 0 where there is no track."""

    event: np.ndarray
    species: np.ndarray
    energy: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    track_energy: np.ndarray


def _by_species(pid: np.ndarray, values: Mapping[int, float]) -> np.ndarray:
    """The value of each absolute PDG id, else 0."""
    return sum((value * (np.abs(pid) == species) for species, value in values.items()), 0 * pid)


def _charge(pid: np.ndarray) -> np.ndarray:
    return np.sign(pid) * _by_species(pid, CHARGE)


def _bin(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Index of the first upper edge not below the absolute value; the last bin has no end."""
    return np.searchsorted(edges[:-1], np.abs(values))


def _log_normal(mean: np.ndarray, sigma: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random numbers of log-normal distributions with these positive means and these standard deviations."""
    variance = np.log1p((sigma / mean) ** 2)
    return mean * np.exp(np.sqrt(variance) * generator.standard_normal(len(mean)) - variance / 2)


@np.errstate(divide="ignore", invalid="ignore")  # paths that never meet the side or the end
def _propagate(particles: Particles, tracker: Tracker) -> tuple[Particles, np.ndarray, np.ndarray]:
    r"""The particles born inside the cylinder, with eta and phi of the ends of their paths, as seen from the origin.

    In the transverse plane, a charge moves on a circle of radius r about a centre at a distance d from the beam. It
    meets the side, at a distance R, where :math:`R^2 = d^2 + r^2 + 2 d r \cos\alpha`, with the angle :math:`\alpha`
    between the directions from the beam to the centre and from there to the charge. Without a solution it curls up to
    the end.
    """
    inside = np.hypot(particles.x, particles.y) < 1000 * tracker.radius
    inside &= (np.abs(particles.z) < 1000 * tracker.half_length) & (np.hypot(particles.px, particles.py) > 0)
    particles = Particles(*(column[inside] for column in particles))
    x, y, z = particles.x / 1000, particles.y / 1000, particles.z / 1000  # m
    pt, phi = np.hypot(particles.px, particles.py), np.arctan2(particles.py, particles.px)
    slope, curvature = particles.pz / pt, CURVATURE * tracker.field * _charge(particles.pid) / pt
    along = x * np.cos(phi) + y * np.sin(phi)
    straight = np.sqrt(along**2 + tracker.radius**2 - x**2 - y**2) - along
    r, sign = 1 / np.abs(curvature), np.sign(curvature)
    centre_x, centre_y = x + sign * r * np.sin(phi), y - sign * r * np.cos(phi)
    d = np.hypot(centre_x, centre_y)
    start = sign * (phi - np.arctan2(centre_y, centre_x)) + np.pi / 2
    turn = (start - np.arccos(np.clip((tracker.radius**2 - d**2 - r**2) / (2 * d * r), -1, 1))) % (2 * np.pi)
    to_side = np.where(curvature == 0, straight, np.where(d + r > tracker.radius, r * turn, np.inf))
    to_end = (np.copysign(tracker.half_length, slope) - z) / slope
    length = np.minimum(np.minimum(to_side, to_end), 1e9)  # in the transverse plane
    chord, direction = length * np.sinc(curvature * length / (2 * np.pi)), phi - curvature * length / 2
    x, y, z = x + chord * np.cos(direction), y + chord * np.sin(direction), z + slope * length
    return particles, np.arcsinh(z / np.hypot(x, y)), np.arctan2(y, x)


def _measure_impact(
    particles: Particles, pt: np.ndarray, eta: np.ndarray, tracker: Tracker, generator: np.random.Generator
) -> np.ndarray:
    """The rows ``impact`` of :class:`Objects`, from the measured pT and eta of the tracks."""
    if not tracker.impact.size:
        return np.zeros((4, len(pt)))
    d0, dz = _closest_to_beam(particles, tracker.field)
    a, b, c = np.moveaxis(tracker.impact[:, _bin(eta, tracker.impact_eta)], -1, 0)
    errors = a + b * pt**-c
    smear = errors * generator.standard_normal(errors.shape)
    return np.stack([d0 + smear[0], errors[0], dz + smear[1], errors[1]])


@np.errstate(divide="ignore", invalid="ignore")  # neutral particles
def _closest_to_beam(particles: Particles, field: float) -> tuple[np.ndarray, np.ndarray]:
    r"""d0 and dz [mm] of the points of the paths, or of their extensions, that are closest to the beam.

    A charge on a circle of radius r about a centre at a distance d from the beam has :math:`d_0 = \pm (d - r)`.
    """
    pt, phi = np.hypot(particles.px, particles.py), np.arctan2(particles.py, particles.px)
    x, y, radius = particles.x, particles.y, 1000 * pt / (CURVATURE * field)
    sign = _charge(particles.pid)
    centre_x, centre_y = x + sign * radius * np.sin(phi), y - sign * radius * np.cos(phi)
    turned = np.arctan2(sign * centre_x, -sign * centre_y) - phi  # from here to the closest point
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    neutral = sign == 0
    d0 = np.where(neutral, x * np.sin(phi) - y * np.cos(phi), sign * (np.hypot(centre_x, centre_y) - radius))
    along = np.where(neutral, x * np.cos(phi) + y * np.sin(phi), sign * radius * turned)
    return d0, particles.z - particles.pz / pt * along


def _find_tracks(
    particles: Particles, eta: np.ndarray, tracker: Tracker, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which particles have a track, and its pT, from eta where they leave the tracker."""
    species, pt = np.abs(particles.pid), np.hypot(particles.px, particles.py)
    kind = 1 * (species == ELECTRON) + 2 * (species == MUON)
    column = np.searchsorted(tracker.efficiency_pt, pt) - 1
    efficiency = tracker.efficiency[kind, _bin(eta, tracker.efficiency_eta), np.maximum(column, 0)]
    seen = (_charge(particles.pid) != 0) & (column >= 0) & (np.abs(eta) < tracker.efficiency_eta[-1])
    seen &= generator.random(len(pt)) < efficiency
    a, b = tracker.resolution[kind, _bin(eta, tracker.resolution_eta)].T
    resolution = np.minimum(np.hypot(a, b * pt), 1)
    return seen, _log_normal(pt, resolution * pt, generator)


def _energy_flow(
    calorimeter: Calorimeter, pid: int, hits: _Hits, scaled: bool, generator: np.random.Generator
) -> tuple[Objects, np.ndarray]:
    """The neutral objects of a calorimeter, and the factor by which it scales the track of each particle."""
    fraction = np.full(len(hits.event), calorimeter.rest)
    for species, taken in calorimeter.takes.items():
        fraction[hits.species == species] = taken
    ring = np.searchsorted(calorimeter.edges, hits.eta) - 1
    inside = (fraction > 0) & (ring >= 0) & (ring < len(calorimeter.cells))
    hits, fraction, ring = _Hits(*(column[inside] for column in hits)), fraction[inside], ring[inside]
    cells = calorimeter.cells[ring]
    cell = np.floor((hits.phi / (2 * np.pi) + 0.5) * cells).astype(np.int64) % cells
    rings, most = len(calorimeter.cells), calorimeter.cells.max()
    towers, tower = np.unique((hits.event * rings + ring) * most + cell, return_inverse=True)
    event, ring, cell = towers // most // rings, towers // most % rings, towers % most

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(tower, values, len(towers))

    low, high = calorimeter.edges[ring], calorimeter.edges[ring + 1]
    centre, deposits = (low + high) / 2, total(fraction * hits.energy)
    energy = _log_normal(deposits, calorimeter.sigma(centre, deposits), generator)
    sigma = calorimeter.sigma(centre, energy)
    energy[(energy < calorimeter.energy_min) | (energy < calorimeter.significance_min * sigma)] = 0
    tracked = total(fraction * hits.track_energy)
    excess = np.maximum(energy - tracked, 0)
    error = sigma if scaled else calorimeter.sigma(centre, excess)
    neutral = (excess > calorimeter.energy_min) & (excess > calorimeter.significance_min * error)
    scale, factor = np.ones(len(inside)), np.ones(len(towers))
    if scaled:
        np.divide(energy, tracked, out=factor, where=(tracked > 0) & ~neutral)
    scale[inside] = factor[tower]
    across, around = generator.random((2, len(towers)))
    eta, phi = low + across * (high - low), ((cell + around) / calorimeter.cells[ring] - 0.5) * 2 * np.pi
    columns = event, np.full(len(towers), pid), excess / np.cosh(eta), eta, phi, 0 * eta, np.zeros((4, len(towers)))
    return Objects(*(column[..., neutral] for column in columns)), scale


_COARSE = 2.5 + 0.2 * np.arange(1, 13)
_TOWERS = (  # 0.1 in eta x 10 degrees up to |eta| = 2.5, 0.2 x 20 degrees beyond
    np.concatenate([-_COARSE[::-1], 0.1 * np.arange(-25, 26), _COARSE]),
    np.repeat([18, 36, 18], [12, 50, 12]),
)

ATLAS = Detector(
    Tracker(
        radius=1.15,
        half_length=3.51,
        field=2.0,
        efficiency_eta=np.array([1.5, 2.5]),
        efficiency_pt=np.array([0.1, 1.0, 100.0]),
        efficiency=np.array(
            [
                [[0.70, 0.95, 0.95], [0.60, 0.85, 0.85]],
                [[0.73, 0.95, 0.99], [0.50, 0.83, 0.90]],
                [[0.75, 0.99, 0.99], [0.70, 0.98, 0.98]],
            ]
        ),
        resolution_eta=np.array([0.5, 1.5, 2.5]),
        resolution=np.array(
            [
                [[0.06, 1.3e-3], [0.10, 1.7e-3], [0.25, 3.1e-3]],
                [[0.03, 1.3e-3], [0.05, 1.7e-3], [0.15, 3.1e-3]],
                [[0.01, 1.0e-4], [0.015, 1.5e-4], [0.025, 3.5e-4]],
            ]
        ),
    ),
    ecal=Calorimeter(
        *_TOWERS,
        takes={ELECTRON: 1.0, PHOTON: 1.0, 310: 0.3, 3122: 0.3},
        rest=0.0,
        resolution=np.array([[3.2, 0.0017, 0.101, 0.0], [5.0, 0.035, 0.285, 0.0]]),
        energy_min=0.5,
        significance_min=2.0,
    ),
    hcal=Calorimeter(
        *_TOWERS,
        takes={ELECTRON: 0.0, PHOTON: 0.0, MUON: 0.0, 310: 0.7, 3122: 0.7},
        rest=1.0,
        resolution=np.array([[1.7, 0.0302, 0.5205, 1.59], [3.2, 0.05, 0.706, 0.0], [5.0, 0.0942, 1.0, 0.0]]),
        energy_min=1.0,
        significance_min=2.0,
    ),
)
"""Delphes' ATLAS card (delphes/delphes at 15772b7), but with the towers and the energy flow of older cards, which the
Top quark tagging reference data (Zenodo 2603256) speak for. Electromagnetic towers have 0.1 x 10 degrees, as the
hadronic ones: with 0.0174 x 1 degree, jets have more particles than those data. Tracks are not averaged with their
towers, and an excess need not be significant beside the errors of both: that leaves too few neutral particles of 2 to 5
GeV.
"""

_FINE, _FORWARD = (
    0.0174 * np.arange(-170, 171),
    np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4, 4.175, 4.35, 4.525, 4.7, 5]),
)
_BARREL = 0.087 * np.arange(-19, 20)
_ENDCAP = np.array([1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95])

CMS = Detector(
    ATLAS.tracker._replace(
        radius=1.29,
        half_length=3.0,
        field=3.8,
        impact_eta=np.array([0.9, 1.4, 2.5]),
        impact=np.array(
            [
                [[0.0096, 0.0738, 0.908], [0.0085, 0.0916, 0.917], [0.0122, 0.1448, 1.004]],
                [[0.0286, 0.0864, 0.931], [0.0311, 0.1650, 0.935], [0.0706, 0.5628, 1.001]],
            ]
        ),
        massive=True,
        scaled=True,
    ),
    ecal=ATLAS.ecal._replace(
        edges=np.concatenate([-_FORWARD[::-1], _FINE, _FORWARD]),
        cells=np.repeat([36, 360, 36], [11, 340, 11]),
        resolution=np.array(
            [
                [1.5, 0.008, 0.11, 0.40, 0.64, 0.0],
                [2.5, 2.16 * 0.008, 2.16 * 0.11, 2.16 * 0.40, 5.6 / 2.16, 2.0],
                [5.0, 0.107, 2.08, 0.0, 0.0, 0.0],
            ]
        ),
    ),
    hcal=ATLAS.hcal._replace(
        edges=np.concatenate([-_FORWARD[::-1], -_ENDCAP[::-1], _BARREL, _ENDCAP, _FORWARD]),
        cells=np.repeat([18, 36, 72, 36, 18], [3, 18, 38, 18, 3]),
        resolution=np.array([[3.0, 0.05, 1.5, 0.0], [5.0, 0.13, 2.7, 0.0]]),
        significance_min=1.0,
    ),
)
"""The card of JetClass, Zenodo 6619768 (jet-universe/jetclass_generation at ae722ea): Delphes' CMS card,
with the tracks of the ATLAS card and impact parameters. Their errors are fits to the card's tables (arXiv 1405.6569,
Fig. 15), within 8 % (r.m.s.) above 0.2 GeV. In that card, the module that smears impact parameters also sets the errors
of momenta to 0. Delphes then gives tracks the energies of their towers, as published charged hadrons show, so it is
followed here."""

DETECTORS = {"atlas": ATLAS, "cms": CMS, "none": None}
"""Detectors by their names in recipes."""
