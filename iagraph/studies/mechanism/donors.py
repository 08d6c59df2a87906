"""Activations of another real jet, particle for particle: donors of another class, matched by rank in pT."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from iagraph.jets import JetBatch
from iagraph.kinematics import Impact


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


def take(jets: JetBatch, places: Tensor) -> JetBatch:
    """The jets at some places of a batch, in their order; a place may be there twice."""
    sizes = jets.ptr.diff()[places]
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    begin = (jets.ptr[:-1][places] - ptr[:-1]).repeat_interleave(sizes)
    particles = begin + torch.arange(len(begin), device=begin.device)
    impact = None if jets.impact is None else Impact(*(values[particles] for values in jets.impact))
    pid = None if jets.pid is None else jets.pid[particles]
    y = None if jets.y is None else jets.y[places]
    return replace(jets, momenta=jets.momenta.select(particles), ptr=ptr, pid=pid, y=y, impact=impact)


def rank_match(jets: JetBatch, donors: JetBatch) -> Tensor:
    """The particle of the donor that has the same rank in pT, for each particle of jets; -1 where it has fewer.

    Args:
        jets: the jets.
        donors: as many jets, the donor of each.

    Returns:
        Shape [particles of jets].
    """
    rank = torch.empty_like(jets.batch)
    rank[_by_pt(jets)] = torch.arange(len(rank), device=rank.device) - jets.ptr[:-1][jets.batch]
    has = rank < donors.ptr.diff()[jets.batch]
    place = torch.where(has, donors.ptr[:-1][jets.batch] + rank, 0)
    ordered = _by_pt(donors)
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


def _by_pt(jets: JetBatch) -> Tensor:
    """Particles jet by jet, by falling pT within; equal ones in their order."""
    falling = jets.momenta.pt.argsort(descending=True, stable=True)
    return falling[jets.batch[falling].argsort(stable=True)]
