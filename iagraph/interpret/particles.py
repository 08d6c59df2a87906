"""Particles of a batch chosen and ordered, jets matched with donors of another class, and kinds of particles."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from iagraph.jets import JetBatch
from iagraph.kinematics import NODE_FEATURES, Impact

SPECIES = ("charged hadron", "neutral hadron", "photon", "electron", "muon", "other")
"""The kinds of particles that a detector tells apart."""
OTHER = len(SPECIES) - 1


def falling(values: Tensor, jets: JetBatch) -> Tensor:
    """Particles jet by jet, by falling value within each; equal ones keep their order. Shape [particles]."""
    order = values.argsort(descending=True, stable=True)
    return order[jets.batch[order].argsort(stable=True)]


def ranks(values: Tensor, jets: JetBatch) -> Tensor:
    """Rank of each particle in its jet by falling value, from 0; equal ones keep their order. Shape [particles]."""
    order = falling(values, jets)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device) - jets.ptr[jets.batch]
    return rank


def keep(jets: JetBatch, kept: Tensor) -> JetBatch:
    """The jets with some of their particles, ``kept`` being bool of shape [particles]; jets may become empty."""
    particles = kept.nonzero().squeeze(1)
    return _with(jets, particles, torch.bincount(jets.batch[particles], minlength=len(jets)))


def take(jets: JetBatch, places: Tensor) -> JetBatch:
    """The jets at some places of a batch, in their order; a place may be there twice."""
    sizes = jets.ptr.diff()[places]
    begin = (jets.ptr[:-1][places] - (sizes.cumsum(0) - sizes)).repeat_interleave(sizes)
    taken = _with(jets, begin + torch.arange(len(begin), device=begin.device), sizes)
    y, weight = (None if values is None else values[places] for values in (jets.y, jets.weight))
    return replace(taken, y=y, weight=weight)


def _with(jets: JetBatch, particles: Tensor, sizes: Tensor) -> JetBatch:
    impact = None if jets.impact is None else Impact(*(values[particles] for values in jets.impact))
    pid = None if jets.pid is None else jets.pid[particles]
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return replace(jets, momenta=jets.momenta.select(particles), ptr=ptr, pid=pid, impact=impact)


def species(jets: JetBatch) -> Tensor | None:
    """The kind of each particle as a place in :data:`SPECIES`, shape [particles]; None where species are not known."""
    if jets.pid is None:
        return None
    features = jets.node_features("kinpid")
    names = [f"is_{name.replace(' ', '_')}" for name in SPECIES[:OTHER]]
    flags = features[:, [NODE_FEATURES["kinpid"].index(name) for name in names]].bool()
    return torch.cat([flags, ~flags.any(1, keepdim=True)], dim=1).long().argmax(1)


def other_class(labels: Tensor) -> Tensor:
    """A donor for each jet, shape [jets]: the k-th jet of a class gets the k-th of the next class that there is, and of
    the last class of the first; where the other class has fewer jets it begins again.

    Raises:
        ValueError: all jets are of one class.
    """
    present = labels.unique().tolist()
    if len(present) < 2:
        raise ValueError("donors are of another class: give jets of two classes at least")
    donors = torch.empty_like(labels)
    for own, other in zip(present, [*present[1:], present[0]], strict=True):
        mine, theirs = (labels == own).nonzero().squeeze(1), (labels == other).nonzero().squeeze(1)
        donors[mine] = theirs[torch.arange(len(mine), device=labels.device) % len(theirs)]
    return donors


def rank_match(jets: JetBatch, donors: JetBatch) -> Tensor:
    """The particle of the donor that has the same rank in pT, for each particle of jets; -1 where it has fewer.

    Args:
        jets: the jets.
        donors: as many jets, the donor of each.

    Returns:
        Shape [particles of jets].
    """
    rank, ordered = ranks(jets.momenta.pt, jets), falling(donors.momenta.pt, donors)
    has = rank < donors.ptr.diff()[jets.batch]
    place = torch.where(has, donors.ptr[:-1][jets.batch] + rank, 0)
    return torch.where(has, ordered[place], -1) if len(ordered) else torch.full_like(rank, -1)


def transplant(own: Tensor, theirs: Tensor, match: Tensor) -> Tensor:
    """Vectors of particles with those of their matches in the donors in their place; the others keep their own.

    Args:
        own: shape [particles, channels].
        theirs: shape [particles of the donors, channels].
        match: from :func:`rank_match`.
    """
    matched = match >= 0
    result = own.clone()
    result[matched] = theirs[match[matched]]
    return result
