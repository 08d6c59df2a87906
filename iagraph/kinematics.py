r"""Four-momenta and their node and pair features: pure functions of tensors.

Units are GeV and radians. A particle is given by its transverse momentum :math:`p_T`, rapidity :math:`y` (never
pseudorapidity), azimuth :math:`\phi` and mass :math:`m`; then

.. math::
    m_T = \sqrt{m^2 + p_T^2}, \quad E = m_T \cosh y, \quad p_z = m_T \sinh y .

Every logarithm is of :math:`\max(x, 10^{-8})` (``LOG_FLOOR``, the value of the Particle Transformer, arXiv 2202.03772),
so empty, collinear and identical particles give finite features. All functions broadcast, preserve dtypes and avoid
cancellation in float32: see the docstrings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from iagraph.segment import segment_sum

__all__ = [
    "Impact",
    "Momenta",
    "NODE_FEATURES",
    "PAIR_FEATURES",
    "from_cartesian",
    "jet_momenta",
    "node_features",
    "pair_features",
    "to_cartesian",
]

LOG_FLOOR = 1e-8
"""Lower bound of arguments of logarithms; ln(LOG_FLOOR) = -18.4."""

LIMITS = {"pt": 1e8, "mass": 1e8, "rapidity": 20.0}
"""Largest absolute values, in GeV (rapidity: dimensionless): far beyond colliders, yet safe for float32 features."""

_TINY = 1e-30
"""Keeps quotients of vanishing momenta finite in float32."""


class Momenta(NamedTuple):
    """Four-momenta as four tensors of one shape: transverse momentum [GeV], rapidity, azimuth [rad], mass [GeV]."""

    pt: Tensor
    rapidity: Tensor
    phi: Tensor
    mass: Tensor

    @property
    def mt(self) -> Tensor:
        r"""Transverse mass :math:`\sqrt{m^2 + p_T^2}` in GeV."""
        return _norm(self.mass, self.pt)

    @property
    def energy(self) -> Tensor:
        r"""Energy :math:`m_T \cosh y` in GeV."""
        return self.mt * torch.cosh(self.rapidity)

    def select(self, index: Tensor) -> Momenta:
        """The momenta at ``index`` along the first axis."""
        return Momenta(*(component.index_select(0, index) for component in self))


class Impact(NamedTuple):
    """Impact parameters of tracks in mm, four tensors of one shape, zero for particles without a track: transverse and
    longitudinal distance of closest approach to the beam line, each with its error.
    """

    d0: Tensor
    d0_error: Tensor
    dz: Tensor
    dz_error: Tensor


def wrap_phi(phi: Tensor) -> Tensor:
    r"""Angles, or differences of angles, mapped to :math:`[-\pi, \pi)`."""
    wrapped = _nearest(phi)
    return torch.where(wrapped >= math.pi, wrapped - 2 * math.pi, wrapped)


def safe_log(x: Tensor) -> Tensor:
    r"""Natural logarithm :math:`\ln \max(x, 10^{-8})`; its gradient is zero below the floor."""
    return x.clamp(min=LOG_FLOOR).log()


def from_cartesian(px: Tensor, py: Tensor, pz: Tensor, energy: Tensor) -> Momenta:
    r"""Momenta from Cartesian four-vectors (GeV).

    .. math::
        y = \operatorname{arsinh}\frac{p_z}{m_T}, \qquad m^2 = \max((E - |\vec p|)(E + |\vec p|), 0)

    This form of the rapidity avoids differences of large numbers. A particle off its mass shell (:math:`E < |\vec p|`)
    counts as massless. A massless particle along the beam, with infinite y, gets the y of a transverse mass of 1e-8 GeV
    and does not contribute to vector sums; one without momentum gets y = 0. Use float64 where masses matter: for
    :math:`m \ll E`, float32 input determines the mass to about :math:`3 \times 10^{-4} E` only.
    """
    pt = _norm(px, py)
    momentum = _norm(pt, pz)
    mass = _sqrt((energy - momentum) * (energy + momentum))
    rapidity = torch.asinh(pz / _norm(mass, pt).clamp(min=LOG_FLOOR))
    # atan2 has no gradient at the origin.
    phi = torch.atan2(py, torch.where((px == 0) & (py == 0), torch.ones_like(px), px))
    return Momenta(pt, rapidity, phi, mass)


def to_cartesian(momenta: Momenta) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Cartesian four-vectors :math:`(p_x, p_y, p_z, E)` in GeV."""
    mt = momenta.mt
    return (
        momenta.pt * torch.cos(momenta.phi),
        momenta.pt * torch.sin(momenta.phi),
        mt * torch.sinh(momenta.rapidity),
        mt * torch.cosh(momenta.rapidity),
    )


def jet_momenta(particles: Momenta, batch: Tensor, ptr: Tensor) -> Momenta:
    """Vector sum of each jet's particles.

    Summed in float64 (except on Apple's GPUs, which lack it): the mass of a jet is a small difference of large sums.

    Args:
        particles: momenta of shape [particles], jets one after another.
        batch: the jet of each particle, shape [particles], ascending.
        ptr: where each jet begins and ends, shape [jets + 1].

    Returns:
        Momenta of shape [jets]; an empty jet is zero.
    """
    precise = particles.pt.dtype if particles.pt.device.type == "mps" else torch.float64
    vectors = torch.stack(to_cartesian(Momenta(*(component.to(precise) for component in particles))), dim=1)
    px, py, pz, energy = segment_sum(vectors, batch, ptr.numel() - 1, ptr).unbind(1)
    return Momenta(*(component.to(particles.pt.dtype) for component in from_cartesian(px, py, pz, energy)))


# --- node features -----------------------------------------------------------------------------------------------

_KINEMATIC = ("log_pt", "log_energy", "log_pt_share", "log_energy_share", "delta_r")
_DIRECTION = ("delta_eta", "delta_phi")
_SPECIES = ("charge", "is_charged_hadron", "is_neutral_hadron", "is_photon", "is_electron", "is_muon")
_IMPACT = ("tanh_d0", "d0_error", "tanh_dz", "dz_error")

NODE_FEATURES: dict[str, tuple[str, ...]] = {
    "kin": _KINEMATIC + _DIRECTION,
    "kinpid": _KINEMATIC + _SPECIES + _DIRECTION,
    "full": _KINEMATIC + _SPECIES + _IMPACT + _DIRECTION,
    "iaformer": ("energy", "px", "py", "pz", *_KINEMATIC[:4], "delta_rapidity", "delta_phi", "delta_r"),
}
"""Node feature sets by name, in order: ``kin``, ``kinpid`` and ``full`` of ParT (arXiv 2202.03772, Tab. 2; ``full`` as
in weaver's JetClass_full.yaml), and the 11 of IAFormer (arXiv 2505.03258). No scaling is applied here."""

# Signs follow from the quark content; species not listed count as neutral.
_NEGATIVE_LEPTONS = (11, 13, 15)
_NEGATIVE_HADRONS = (3112, 3312, 3334)
_POSITIVE_HADRONS = (211, 321, 2212, 3222, 411, 431, 521)
_NEUTRAL_HADRONS = (130, 310, 2112, 3122, 3322)


def charge(pid: Tensor) -> Tensor:
    """Signed electric charge of PDG particle identifiers; 0 for unlisted species."""
    magnitude = pid.abs()
    return _charge(pid, magnitude, _is_in(magnitude, _POSITIVE_HADRONS), _is_in(magnitude, _NEGATIVE_HADRONS))


def _charge(pid: Tensor, magnitude: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Charges, from absolute identifiers and from which of these are hadrons of either charge."""
    negative = negative | _is_in(magnitude, _NEGATIVE_LEPTONS)
    return pid.sign() * (positive.float() - negative.float())


def _is_in(numbers: Tensor, some: Sequence[int]) -> Tensor:
    """Whether numbers are among a few, by comparisons: a table would have to be copied to a GPU."""
    return torch.stack([numbers == each for each in some]).any(0)


def node_features(
    name: str,
    particles: Momenta,
    batch: Tensor,
    ptr: Tensor,
    pid: Tensor | None = None,
    impact: Impact | None = None,
) -> Tensor:
    r"""Features of each particle within its jet.

    The jet is the vector sum of its particles. Features: ``log_pt`` :math:`\ln p_T`, ``log_energy`` :math:`\ln E`,
    ``log_pt_share`` :math:`\ln(p_T / p_T^{jet})`, ``log_energy_share`` :math:`\ln(E / E^{jet})`, ``delta_rapidity``
    :math:`y - y^{jet}`, ``delta_eta`` :math:`(y - y^{jet}) \operatorname{sign}(y^{jet})`, ``delta_phi`` (wrapped),
    ``delta_r`` :math:`\sqrt{\Delta y^2 + \Delta\phi^2}`, signed ``charge`` and flags of the five kinds of particles
    that a detector distinguishes; other species (taus, neutrinos) have no flag; ``tanh_d0`` :math:`\tanh d_0`,
    ``d0_error`` :math:`\min(\max(\sigma_{d_0}, 0), 1)` and likewise for :math:`d_z`, with lengths in mm.

    ``delta_eta`` keeps its customary name but is a difference of rapidities; for massless particles the two agree.

    Args:
        name: a key of :data:`NODE_FEATURES`.
        particles: momenta of shape [particles].
        batch: the jet of each particle, shape [particles], ascending.
        ptr: where each jet begins and ends, shape [jets + 1].
        pid: PDG identifiers, shape [particles]; needed by ``kinpid`` and ``full``.
        impact: impact parameters of shape [particles]; needed by ``full`` only.

    Returns:
        Features, shape [particles, features], in the order of ``NODE_FEATURES[name]``.

    Raises:
        ValueError: the name is unknown, or ``pid`` or ``impact`` is missing.
    """
    jets = jet_momenta(particles, batch, ptr)
    energy = jets.energy.index_select(0, batch)
    return torch.stack(node_columns(name, particles, jets.select(batch), energy, pid, impact), dim=1)


def node_columns(
    name: str, particles: Momenta, jet: Momenta, jet_energy: Tensor, pid: Tensor | None, impact: Impact | None
) -> list[Tensor]:
    """Columns of :func:`node_features`, each of shape [particles], from momentum and energy of each particle's jet."""
    names = feature_names(name, NODE_FEATURES)
    delta_y = particles.rapidity - jet.rapidity
    delta_phi = wrap_phi(particles.phi - jet.phi)
    energy = particles.energy
    shares = particles.pt / jet.pt.clamp(min=LOG_FLOOR), energy / jet_energy.clamp(min=LOG_FLOOR)
    columns = {
        **dict(zip(_KINEMATIC, safe_log(torch.stack([particles.pt, energy, *shares])), strict=False)),
        "delta_r": _norm(delta_y, delta_phi),
        "delta_rapidity": delta_y,
        "delta_eta": delta_y * torch.where(jet.rapidity < 0, -1.0, 1.0).to(delta_y),
        "delta_phi": delta_phi,
    }
    if "px" in names:
        columns |= dict(zip(("px", "py", "pz", "energy"), to_cartesian(particles), strict=True))
    if "charge" in names:
        if pid is None:
            raise ValueError(
                f"node features '{name}' need particle species, but these jets have no 'pid'; use 'kin' instead"
            )
        columns |= {key: value.to(particles.pt) for key, value in _species(pid).items()}
    if "d0_error" in names:
        if impact is None:
            raise ValueError(
                f"node features '{name}' need impact parameters, but these jets have none "
                f"({', '.join(Impact._fields)}); use 'kinpid' instead"
            )
        values = (impact.d0.tanh(), impact.d0_error.clamp(0, 1), impact.dz.tanh(), impact.dz_error.clamp(0, 1))
        columns |= {key: value.to(particles.pt) for key, value in zip(_IMPACT, values, strict=True)}
    return [columns[key] for key in names]


def _species(pid: Tensor) -> dict[str, Tensor]:
    """Charge and flags of the kinds of particles that a detector distinguishes."""
    magnitude = pid.abs()
    positive, negative = _is_in(magnitude, _POSITIVE_HADRONS), _is_in(magnitude, _NEGATIVE_HADRONS)
    return {
        "charge": _charge(pid, magnitude, positive, negative),
        "is_charged_hadron": positive | negative,
        "is_neutral_hadron": _is_in(magnitude, _NEUTRAL_HADRONS),
        "is_photon": magnitude == 22,
        "is_electron": magnitude == 11,
        "is_muon": magnitude == 13,
    }


# --- pair features -----------------------------------------------------------------------------------------------

PAIR_FEATURES: dict[str, tuple[str, ...]] = {
    "invariant": ("log_delta_r", "log_kt", "log_z", "log_m2", "log_pair_pt_share"),
    "iaformer": ("log_delta_r", "log_kt", "log_z", "log_m2", "log_pair_pt_share", "log_pair_energy_share"),
    "part": ("log_kt", "log_z", "log_delta_r", "log_m2"),
}
"""Pair feature sets by name, in order: ``invariant`` (the default: unchanged by boosts along the beam), ``iaformer``
(arXiv 2505.03258: adds a sixth, not invariant) and ``part`` (arXiv 2202.03772, Eq. 3, in weaver's order)."""


def pair_mass2(first: Momenta, second: Momenta) -> Tensor:
    r"""Squared invariant mass of pairs in GeV^2, without cancellation.

    .. math::
        m^2 = m_1^2 + m_2^2 + 2 (m_{T1} m_{T2} \cosh\Delta y - p_{T1} p_{T2} \cos\Delta\phi)

    is computed as a sum of non-negative terms,

    .. math::
        m_1^2 + m_2^2 + 2 \left[\frac{m_1^2 m_2^2 + m_1^2 p_{T2}^2 + m_2^2 p_{T1}^2}{m_{T1} m_{T2} + p_{T1} p_{T2}}
        + 2 m_{T1} m_{T2} \sinh^2\frac{\Delta y}{2} + 2 p_{T1} p_{T2} \sin^2\frac{\Delta\phi}{2}\right],

    because :math:`E^2 - |\vec p|^2` loses all digits for collinear particles.
    """
    mt, pt = first.mt * second.mt, first.pt * second.pt
    mass2_1, mass2_2 = first.mass.square(), second.mass.square()
    at_rest = (mass2_1 * (mass2_2 + second.pt.square()) + mass2_2 * first.pt.square()) / (mt + pt).clamp(min=_TINY)
    boost = 2 * mt * torch.sinh((first.rapidity - second.rapidity) / 2).square()
    turn = 2 * pt * torch.sin((first.phi - second.phi) / 2).square()
    return mass2_1 + mass2_2 + 2 * (at_rest + boost + turn)


def pair_features(name: str, first: Momenta, second: Momenta, jet_pt: Tensor, jet_energy: Tensor) -> Tensor:
    r"""Features of pairs of particles of one jet, symmetric in the two.

    ``log_delta_r`` :math:`\ln\Delta` with :math:`\Delta = \sqrt{\Delta y^2 + \Delta\phi^2}`, ``log_kt``
    :math:`\ln(\min(p_{T1}, p_{T2}) \Delta)`, ``log_z`` :math:`\ln(\min(p_{T1}, p_{T2}) / (p_{T1} + p_{T2}))`,
    ``log_m2`` :math:`\ln m^2`, ``log_pair_pt_share`` :math:`\ln((p_{T1} + p_{T2}) / p_T^{jet})`,
    ``log_pair_energy_share`` :math:`\ln((E_1 + E_2) / E^{jet})` (changes under boosts along the beam).

    A particle paired with itself has :math:`\Delta = 0`, so that ``log_delta_r`` and ``log_kt`` take their floor value;
    jets flag such pairs in a separate row (:mod:`iagraph.jets`).

    Args:
        name: a key of :data:`PAIR_FEATURES`.
        first: momenta of one particle of each pair, shape [pairs].
        second: momenta of the other particle, shape [pairs].
        jet_pt: transverse momentum of the jet of each pair in GeV, shape [pairs].
        jet_energy: energy of that jet in GeV, shape [pairs].

    Returns:
        Features, shape [features, pairs]; the long axis is last, as fast kernels require.

    Raises:
        ValueError: the name is unknown.
    """
    names = feature_names(name, PAIR_FEATURES)
    delta = _norm(first.rapidity - second.rapidity, _nearest(first.phi - second.phi))
    softer, pt_sum = torch.minimum(first.pt, second.pt), first.pt + second.pt
    columns = {
        "log_delta_r": delta,
        "log_kt": softer * delta,
        "log_z": softer / pt_sum.clamp(min=LOG_FLOOR),
        "log_m2": pair_mass2(first, second),
        "log_pair_pt_share": pt_sum / jet_pt.clamp(min=LOG_FLOOR),
    }
    if "log_pair_energy_share" in names:
        columns["log_pair_energy_share"] = (first.energy + second.energy) / jet_energy.clamp(min=LOG_FLOOR)
    return safe_log(torch.stack([columns[key] for key in names]))


def _nearest(phi: Tensor) -> Tensor:
    r"""Angles modulo full turns, in :math:`[-\pi, \pi]`."""
    return phi - 2 * math.pi * (phi / (2 * math.pi)).round()


def differentiated(x: Tensor) -> bool:
    """Whether derivatives by a tensor are computed, in reverse or forward mode."""
    return x.requires_grad or (not torch.compiler.is_compiling() and unpack_dual(x).tangent is not None)


def _sqrt(x: Tensor) -> Tensor:
    """Square root; zero, with zero instead of infinite gradient, for x <= 0."""
    if not differentiated(x):  # this takes a quarter of the time
        return x.clamp(min=0).sqrt()
    vanishes = x <= 0
    return torch.where(vanishes, torch.zeros_like(x), torch.where(vanishes, torch.ones_like(x), x).sqrt())


def _norm(x: Tensor, y: Tensor) -> Tensor:
    """Length of a two-component vector, with zero gradient at the origin."""
    square = x * x + y * y
    return _sqrt(square) if differentiated(square) else square.sqrt()


# Centre and width of each feature. Logarithms and delta_r of particles: the constants of ParT (subtract, multiply) =
# (c, 1 / w). Momenta: not clipped below 1 TeV. Others: rounded mean and spread over EnergyFlow's quark and
# gluon jets (Zenodo 3164691).
SCALING: dict[str, tuple[float, float]] = {
    "log_pt": (1.7, 1 / 0.7),
    "log_energy": (2.0, 1 / 0.7),
    "log_pt_share": (-4.7, 1 / 0.7),
    "log_energy_share": (-4.7, 1 / 0.7),
    "delta_r": (0.2, 0.25),
    "delta_eta": (0.0, 0.2),
    "delta_rapidity": (0.0, 0.2),
    "delta_phi": (0.0, 0.2),
    **dict.fromkeys(("energy", "px", "py", "pz"), (0.0, 200.0)),
    **dict.fromkeys(_SPECIES + _IMPACT, (0.0, 1.0)),
    "log_delta_r": (-1.9, 1.0),
    "log_kt": (-1.6, 1.25),
    "log_z": (-2.0, 1.2),
    "log_m2": (-1.4, 2.1),
    "log_pair_pt_share": (-3.9, 1.2),
    "log_pair_energy_share": (-3.9, 1.2),
    "is_self": (0.0, 1.0),
}
"""Centre and width by which models scale each feature to order one before clipping at 5 widths."""

WEAVER_SCALING = SCALING | dict.fromkeys(("delta_eta", "delta_phi"), (0.0, 1.0))
"""Weaver's scaling, which the published weights of ParticleNet and ParT require (JetClass_full.yaml)."""


def feature_names(name: str, sets: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Names of the features in the set ``name`` of ``sets``.

    Raises:
        ValueError: there is no such set.
    """
    if name not in sets:
        raise ValueError(f"unknown feature set '{name}'; there are {', '.join(sets)}")
    return sets[name]
