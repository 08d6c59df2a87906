"""The kinds of particles that a detector tells apart, with their markers."""

from __future__ import annotations

import torch
from torch import Tensor

from iagraph.jets import JetBatch
from iagraph.kinematics import NODE_FEATURES

MARKERS = {"charged hadron": "^", "neutral hadron": "v", "photon": "o", "electron": "P", "muon": "X", "other": "s"}
"""Kinds of particles, and their markers as in arXiv 2512.00210; a square for all others and where none is known."""

SPECIES = tuple(MARKERS)
"""The kinds of particles."""
OTHER = len(SPECIES) - 1


def species(jets: JetBatch) -> Tensor | None:
    """The kind of each particle as a place in :data:`SPECIES`, shape [particles]; None where species are not known."""
    if jets.pid is None:
        return None
    features = jets.node_features("kinpid")
    names = [f"is_{name.replace(' ', '_')}" for name in SPECIES[:OTHER]]
    flags = features[:, [NODE_FEATURES["kinpid"].index(name) for name in names]].bool()
    none = ~flags.any(1, keepdim=True)
    return torch.cat([flags, none], dim=1).long().argmax(1)
