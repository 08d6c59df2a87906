"""Jets as rows E_0, PX_0, PY_0, PZ_0, E_1, ..., ``is_signal_new`` (top quark tagging reference), in any file format."""

import re
from collections.abc import Collection

import numpy as np

from iagraph.data.jets import Jets, StoreError, offsets_of
from iagraph.data.readers.base import refuse
from iagraph.data.readers.cartesian import momentum_columns

LABEL = "is_signal_new"
CLASSES = ("QCD", "top")
COMPONENTS = ("E", "PX", "PY", "PZ")


def momentum_names(names: Collection[str]) -> list[str]:
    """The momentum columns among ``names``, in the order E_0, PX_0, PY_0, PZ_0, E_1, ...

    Raises:
        StoreError: one of them, or the label, is missing.
    """
    slots = max(1, len({found[1] for name in names if (found := re.fullmatch(r"(?:E|PX|PY|PZ)_(\d+)", name))}))
    expected = [f"{component}_{slot}" for slot in range(slots) for component in COMPONENTS]
    if missing := [name for name in (*expected, LABEL) if name not in names]:
        listed = ", ".join([*list(names)[:5], *(["..."] if len(names) > 5 else [])]) or "none"
        raise StoreError(
            f"has the columns {listed}, but no {missing[0]}; expected E_0, PX_0, PY_0, PZ_0, E_1, ..., {LABEL}"
        )
    return expected


def flat_jets(values: np.ndarray, label: np.ndarray, begin: int) -> Jets:
    """Jets from rows; a particle is any slot with a non-zero component.

    Args:
        values: the columns of ``momentum_names``, shape [jets, 4 * slots].
        label: 0 or 1 per jet, of any type.
        begin: the number of the first jet, for messages.

    Raises:
        StoreError: a label or a particle is invalid.
    """
    vectors = values.reshape(len(values), -1, 4)
    is_particle = (vectors[..., 0] != 0) | (vectors[..., 1] != 0) | (vectors[..., 2] != 0) | (vectors[..., 3] != 0)
    jet, slot = np.nonzero(is_particle)
    energy, px, py, pz = vectors[jet, slot].T
    particles = momentum_columns(px, py, pz, energy, lambda i: f"jet {begin + jet[i]}, particle {slot[i]}")
    refuse((label != 0) & (label != 1), lambda i: f"jet {begin + i}: {LABEL} = {label[i]}, expected 0 or 1; correct it")
    offsets = offsets_of(np.bincount(jet, minlength=len(vectors)))
    return Jets(particles, offsets, label.astype(np.int64), CLASSES)
