"""Selection and order of particles, matching of jets with donors of another class, and species."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from iagraph.jets import JetBatch, falling
from iagraph.kinematics import NODE_FEATURES
from iagraph.segment import ptr_of

SPECIES = ("charged hadron", "neutral hadron", "photon", "electron", "muon", "other")
"""Species that a detector distinguishes."""
OTHER = len(SPECIES) - 1


def ranks(values: Tensor, jets: JetBatch) -> Tensor:
    """Rank of each particle in its jet, 0 for the largest value; ties keep their order. Shape [particles]."""
    order = falling(values, jets.batch)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device) - jets.ptr[jets.batch]
    return rank


def keep(jets: JetBatch, kept: Tensor) -> JetBatch:
    """The jets with only the particles where ``kept``, bool of shape [particles], is true; jets may become empty."""
    particles = kept.nonzero().squeeze(1)
    return jets.with_particles(particles, ptr_of(torch.bincount(jets.batch[particles], minlength=len(jets))))


def take(jets: JetBatch, places: Tensor) -> JetBatch:
    """The jets of a batch at the given indices, in that order; indices may repeat."""
    sizes = jets.ptr.diff()[places]
    begin = (jets.ptr[:-1][places] - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
    taken = jets.with_particles(begin + torch.arange(len(begin), device=begin.device), ptr_of(sizes))
    y, weight, targets = (None if values is None else values[places] for values in (jets.y, jets.weight, jets.targets))
    return replace(taken, y=y, weight=weight, targets=targets)


def species(jets: JetBatch) -> Tensor | None:
    """Species of each particle as an index into :data:`SPECIES`, shape [particles]; None if unknown."""
    if jets.pid is None:
        return None
    features = jets.node_features("kinpid")
    names = [f"is_{name.replace(' ', '_')}" for name in SPECIES[:OTHER]]
    flags = features[:, [NODE_FEATURES["kinpid"].index(name) for name in names]].bool()
    return torch.cat([flags, ~flags.any(1, keepdim=True)], dim=1).long().argmax(1)


def other_class(labels: Tensor) -> Tensor:
    """Index of a donor for each jet, shape [jets].

    The k-th jet of a class gets the k-th jet of the next class present; both counts wrap around.

    Raises:
        ValueError: all jets are of one class.
    """
    present = labels.unique().tolist()
    if len(present) < 2:
        raise ValueError("donors come from another class: give jets of at least two classes")
    donors = torch.empty_like(labels)
    for own, other in zip(present, [*present[1:], present[0]], strict=True):
        mine, theirs = (labels == own).nonzero().squeeze(1), (labels == other).nonzero().squeeze(1)
        donors[mine] = theirs[torch.arange(len(mine), device=labels.device) % len(theirs)]
    return donors


def rank_match(jets: JetBatch, donors: JetBatch) -> Tensor:
    """For each particle, the index of the particle with equal rank in pT in the donor; -1 if the donor has fewer.

    Args:
        jets: the jets.
        donors: the donor of each jet, in the same order.

    Returns:
        Indices into the particles of ``donors``, shape [particles of jets].
    """
    rank, ordered = ranks(jets.momenta.pt, jets), falling(donors.momenta.pt, donors.batch)
    has = rank < donors.ptr.diff()[jets.batch]
    place = torch.where(has, donors.ptr[:-1][jets.batch] + rank, 0)
    return torch.where(has, ordered[place], -1) if len(ordered) else torch.full_like(rank, -1)


def transplant(own: Tensor, theirs: Tensor, match: Tensor) -> Tensor:
    """Particle vectors, with that of each matched particle replaced by its match in the donor.

    Args:
        own: vectors of the particles, shape [particles, channels].
        theirs: vectors of the donors' particles, shape [particles of the donors, channels].
        match: from :func:`rank_match`; unmatched particles (-1) keep their vectors.
    """
    matched = match >= 0
    result = own.clone()
    result[matched] = theirs[match[matched]]
    return result
