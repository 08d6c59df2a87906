"""Conversion of Cartesian four-momenta to the columns of the store."""

from collections.abc import Callable

import numpy as np

from iagraph.data.readers.base import refuse

# Public files hold float32 numbers, with relative rounding errors of up to 2^-24, so a massless particle has |E - |p||
# of up to 2^-23 E, and a mass below 4.9e-4 E cannot be distinguished from zero. Within that, particles count as
# massless: a spurious mass would be noise, and |p| is kept.
MASSLESS = 2.0**-23

# E below |p| is unphysical. Rounding explains E - |p| down to -2^-23 E, or a little below if the producer computed in
# float32: the worst of 63,000 particles of the top tagging reference, JetClass and JetClass-II has -1.05e-7 E, and
# quark/gluon four-momenta computed in float32 reach -2.3e-7 E. Up to twice that counts as massless, more is an error.
SPACELIKE = 2.0**-21


@np.errstate(over="ignore", invalid="ignore")  # infinities are caught here or by Jets.validate
def momentum_columns(
    px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray, name: Callable[[int], str]
) -> dict[str, np.ndarray]:
    """Columns pt, rapidity, phi and mass, float32 [P], computed in float64.

    They reproduce px, py, pz and E of the file to within 2^-24 (1 + max(abs(y), pi)) E, that is 2.5e-7 E for abs(y) <
    pi; E of a massless particle becomes ``|p|``.

    Args:
        px: momentum in GeV, [P].
        py: likewise.
        pz: likewise.
        energy: in GeV, [P].
        name: function of a particle's index that gives its jet and its number in that jet, for messages.

    Raises:
        StoreError: a number is not finite, E is not positive or is significantly below ``|p|``, or pt is zero.
    """
    px, py, pz, energy = (values.astype(np.float64) for values in (px, py, pz, energy))
    pt2 = px * px + py * py
    momentum = np.sqrt(pt2 + pz * pz)
    excess = energy - momentum
    refuse(
        ~(np.isfinite(excess) & (energy > 0)),
        lambda i: f"{name(i)}: {_vector(px, py, pz, energy, i)}, expected finite numbers and E > 0; {_CORRECT}",
    )
    refuse(
        excess < -SPACELIKE * energy,
        lambda i: (
            f"{name(i)}: E = {energy[i]:.9g} GeV is below |p| = {momentum[i]:.9g} GeV by more than rounding, "
            f"expected E >= |p|; {_CORRECT}"
        ),
    )
    pt = np.sqrt(pt2).astype(np.float32)
    refuse(
        pt == 0,
        lambda i: (
            f"{name(i)}: {_vector(px, py, pz, energy, i)} is along the beam, where rapidity and phi are not "
            f"defined, expected pt > 0; {_CORRECT}"
        ),
    )
    # As in iagraph.kinematics.from_cartesian, which takes five times as long for the sake of gradients.
    mass2 = np.where(excess <= MASSLESS * energy, 0.0, excess * (energy + momentum))
    rapidity = np.arcsinh(pz / np.sqrt(mass2 + pt2))
    columns = {"rapidity": rapidity, "phi": np.arctan2(py, px), "mass": np.sqrt(mass2)}
    return {"pt": pt} | {column: values.astype(np.float32) for column, values in columns.items()}


_CORRECT = "correct it, or drop the particle, at its source"


def _vector(px: np.ndarray, py: np.ndarray, pz: np.ndarray, energy: np.ndarray, i: int) -> str:
    return f"(E, px, py, pz) = ({energy[i]:.9g}, {px[i]:.9g}, {py[i]:.9g}, {pz[i]:.9g}) GeV"
