r"""Jet observables: mass, multiplicity, shapes, energy correlations and N-subjettiness; subjets of particles.

All are functions of a :class:`~iagraph.jets.JetBatch`; observables are in float64 and of shape [jets]. Distances,
:math:`R_{ij} = \sqrt{\Delta y^2 + \Delta\phi^2}`, use rapidities, and momentum fractions refer to the scalar sum,
:math:`z_i = p_{T,i} / \sum_k p_{T,k}`, so all are invariant under boosts along the beam and rotations about it.
Undefined numbers, such as a ratio of zero to zero, are NaN. Jets in slots are refused: padding would count.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from iagraph.jets import JetBatch, PaddedJets
from iagraph.kinematics import Momenta, to_cartesian, wrap_phi
from iagraph.segment import segment_sum

__all__ = ["energy_correlations", "mass", "multiplicity", "nsubjettiness", "observables", "pt_dispersion", "width"]

RADIUS = 0.8
"""Default jet radius for the normalisation of N-subjettiness."""

LABELS = {
    "mass": r"$m$",
    "multiplicity": r"$n$",
    "ptd": r"$p_T^D$",
    "width": r"width",
    "e2": r"$e_2$",
    "e3": r"$e_3$",
    "c2": r"$C_2$",
    "d2": r"$D_2$",
    "tau1": r"$\tau_1$",
    "tau2": r"$\tau_2$",
    "tau3": r"$\tau_3$",
    "tau21": r"$\tau_{21}$",
    "tau32": r"$\tau_{32}$",
}
"""Observables of :func:`observables`, with their labels in figures."""


def observables(jets: JetBatch) -> dict[str, Tensor]:
    """All observables of this module by their names in :data:`LABELS`, each of shape [jets], on the CPU.

    Those that begin with ``tau`` need FastJet, and are missing without it.
    """
    jets = _precise(jets.to("cpu"))
    correlations = energy_correlations(jets)
    found = {
        "mass": mass(jets),
        "multiplicity": multiplicity(jets),
        "ptd": pt_dispersion(jets),
        "width": width(jets),
        "e2": correlations.e2,
        "e3": correlations.e3,
        "c2": correlations.c2,
        "d2": correlations.d2,
    }
    taus = nsubjettiness(jets, (1, 2, 3))
    if taus is not None:
        one, two, three = taus.unbind(1)
        found |= {"tau1": one, "tau2": two, "tau3": three, "tau21": _ratio(two, one), "tau32": _ratio(three, two)}
    return found


def mass(jets: JetBatch) -> Tensor:
    r"""Mass of the sum of all particles in GeV, :math:`\sqrt{E^2 - \vec p^2}`; 0 for an empty jet."""
    return _precise(jets).sums().mass


def multiplicity(jets: JetBatch) -> Tensor:
    """Number of particles."""
    return _precise(jets).ptr.diff().double()


def pt_dispersion(jets: JetBatch) -> Tensor:
    r""":math:`p_T^D = \sqrt{\sum_i p_{T,i}^2} / \sum_i p_{T,i}` (CMS-PAS-JME-13-002): 1 for a single particle.

    NaN for an empty jet.
    """
    jets = _precise(jets)
    pt = jets.momenta.pt
    return _ratio(_sum(pt.square(), jets).sqrt(), _sum(pt, jets))


def width(jets: JetBatch) -> Tensor:
    r"""Width, or girth, :math:`\sum_i z_i R_{i,jet}` (arXiv 1106.3076), about the axis of the summed momentum.

    NaN for an empty jet.
    """
    jets = _precise(jets)
    axis = jets.sums().select(jets.batch)
    pt = jets.momenta.pt
    distance = _distance(jets.momenta.rapidity, jets.momenta.phi, axis.rapidity, axis.phi)
    return _ratio(_sum(pt * distance, jets), _sum(pt, jets))


class EnergyCorrelations(NamedTuple):
    r"""Energy correlations of jets, each of shape [jets].

    Attributes:
        e2: :math:`e_2 = \sum_{i<j} z_i z_j R_{ij}^\beta`.
        e3: :math:`e_3 = \sum_{i<j<k} z_i z_j z_k (R_{ij} R_{jk} R_{ki})^\beta`.
        c2: :math:`C_2 = e_3 / e_2^2` (arXiv 1305.0007).
        d2: :math:`D_2 = e_3 / e_2^3` (arXiv 1409.6298).
    """

    e2: Tensor
    e3: Tensor
    c2: Tensor
    d2: Tensor


def energy_correlations(jets: JetBatch, beta: float = 1.0) -> EnergyCorrelations:
    r"""Energy correlations as defined for hadron colliders (arXiv 1305.0007).

    For :math:`M_{ij} = \sqrt{z_i z_j} R_{ij}^\beta` with zero diagonal, :math:`e_3 = \operatorname{tr}(M^3) / 6`, which
    takes one matrix product for each jet. A jet with one or no particle has :math:`e_2 = e_3 = 0` and NaN ratios.

    Args:
        jets: the jets.
        beta: power of the distances.
    """
    momenta = _precise(jets).momenta
    pairs, triples = [], []
    for begin, end in pairwise(jets.ptr.tolist()):
        pt, y, phi, _ = (component[begin:end] for component in momenta)
        distance = _distance(y.unsqueeze(1), phi.unsqueeze(1), y, phi).pow(beta).fill_diagonal_(0.0)
        root = (pt / pt.sum()).sqrt()
        matrix = root.unsqueeze(1) * distance * root
        pairs.append(root @ matrix @ root / 2)
        triples.append((matrix @ matrix * matrix).sum() / 6)
    empty = momenta.pt.new_zeros(0)
    e2, e3 = (torch.stack(values) if values else empty for values in (pairs, triples))
    return EnergyCorrelations(e2, e3, _ratio(e3, e2.square()), _ratio(e3, e2.pow(3)))


def nsubjettiness(jets: JetBatch, numbers: Sequence[int], radius: float = RADIUS, beta: float = 1.0) -> Tensor | None:
    r"""N-subjettiness (arXiv 1011.2268), on the CPU; None if FastJet is not installed.

    .. math:: \tau_N = \frac{1}{\sum_k p_{T,k} R_0^\beta} \sum_k p_{T,k} \min_a R_{ak}^\beta

    over N axes, those of the N exclusive kT subjets, clustered without a beam (FastJet's largest radius) by adding
    four-momenta. The axes are not optimised. A jet with at most N particles has :math:`\tau_N = 0`, an empty
    one NaN.

    Args:
        jets: the jets.
        numbers: values of N, each at least 1.
        radius: jet radius :math:`R_0`.
        beta: power of the distances.

    Returns:
        Shape [jets, len(numbers)].

    Raises:
        ValueError: a number is below 1.
    """
    try:
        import fastjet
    except ImportError:
        return None
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, fastjet.JetDefinition.max_allowable_R)
    if any(number < 1 for number in numbers):
        raise ValueError(f"N-subjettiness needs at least one axis, found {list(numbers)}")
    momenta = _precise(jets.to("cpu")).momenta
    vectors = torch.stack(to_cartesian(momenta), dim=1).tolist()
    rows = []
    for begin, end in pairwise(jets.ptr.tolist()):
        particles = [fastjet.PseudoJet(*vectors[particle]) for particle in range(begin, end)]
        cluster = fastjet.ClusterSequence(particles, definition)
        row = [0.0 if particles else torch.nan] * len(numbers)
        for place, number in enumerate(numbers):
            if number < len(particles):
                axes = [(axis.rap(), axis.phi()) for axis in cluster.exclusive_jets(number)]
                row[place] = _tau(Momenta(*(component[begin:end] for component in momenta)), axes, radius, beta)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64).view(len(jets), len(numbers))


def subjets(jets: JetBatch, number: int | Sequence[int] = 2) -> Tensor | None:
    """Index of the subjet of each particle, shape [particles], -1 for none; None if FastJet is not installed.

    The particles of a jet are clustered with the exclusive kT algorithm, R = :data:`RADIUS`, down to ``number``
    subjets (Catani, Dokshitzer, Seymour, Webber, Nucl. Phys. B 406 (1993) 187). Particles that are merged with the beam
    first, some at wide angles, belong to no subjet, nor do those of a jet with fewer particles than wanted subjets.

    Args:
        jets: the jets.
        number: number of subjets, one for all jets or one for each.
    """
    try:
        import fastjet
    except ImportError:
        return None
    numbers = torch.full((jets.batch.numel(),), -1)
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, RADIUS)
    vectors = torch.stack(to_cartesian(_precise(jets.to("cpu")).momenta), dim=1).tolist()
    numbers_of_subjets = [number] * len(jets) if isinstance(number, int) else number
    for (begin, end), wanted in zip(pairwise(jets.ptr.tolist()), numbers_of_subjets, strict=True):
        if end - begin < wanted:
            continue
        particles = [fastjet.PseudoJet(*vectors[particle]) for particle in range(begin, end)]
        for particle, place in zip(particles, range(begin, end), strict=True):
            particle.set_user_index(place)
        cluster = fastjet.ClusterSequence(particles, definition)
        for index, subjet in enumerate(cluster.exclusive_jets(wanted)):
            numbers[[particle.user_index() for particle in subjet.constituents()]] = index
    return numbers


def _precise(jets: JetBatch) -> JetBatch:
    """The jets in float64."""
    if isinstance(jets, PaddedJets):
        raise TypeError("observables of jets in slots would count padding: compute them from the JetBatch")
    return jets.double()


def _tau(particles: Momenta, axes: Sequence[tuple[float, float]], radius: float, beta: float) -> float:
    y, phi = torch.tensor(axes, dtype=torch.float64).t()
    distance = _distance(particles.rapidity.unsqueeze(1), particles.phi.unsqueeze(1), y, phi).amin(1)
    return float((particles.pt * (distance / radius).pow(beta)).sum() / particles.pt.sum())


def _distance(y: Tensor, phi: Tensor, other_y: Tensor, other_phi: Tensor) -> Tensor:
    return torch.hypot(y - other_y, wrap_phi(phi - other_phi))


def _sum(values: Tensor, jets: JetBatch) -> Tensor:
    return segment_sum(values.unsqueeze(1), jets.batch, len(jets), jets.ptr).squeeze(1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Ratio; NaN where the denominator is zero."""
    tiny = torch.finfo(denominator.dtype).tiny
    return torch.where(denominator > 0, numerator / denominator.clamp(min=tiny), torch.nan)
