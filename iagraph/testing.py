"""Assertions on taggers and layers, for tests here and in other projects.

All raise ``AssertionError``. Those on invariance apply a function of a :class:`~iagraph.jets.JetBatch` to equivalent
jets, and report the largest deviation; ``tolerance`` is absolute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from iagraph.jets import JetBatch, falling
from iagraph.kinematics import Impact, Momenta, wrap_phi
from iagraph.segment import ptr_of

__all__ = [
    "assert_all_gradients",
    "assert_batch_independent",
    "assert_boost_invariant",
    "assert_permutation_invariant",
    "random_jets",
]

_SPECIES = (211, -211, 22, 130, -2112, 321, -2212, 11, -13)


def random_jets(counts: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float32) -> JetBatch:
    """Random collimated jets of given multiplicities.

    They have a falling pT spectrum, masses, species, impact parameters and two classes.

    Args:
        counts: number of particles of each jet; zero is allowed.
        seed: random seed.
        dtype: data type of momenta and impact parameters.
    """
    random = torch.Generator().manual_seed(seed)
    sizes = torch.tensor(counts, dtype=torch.int64)
    total = int(sizes.sum())

    def normal(length: int) -> Tensor:
        return torch.randn(length, generator=random, dtype=torch.float64)

    # Axes near phi = pi, so that jets extend across the boundary of the azimuth.
    axis_y, axis_phi = normal(len(counts)), math.pi + 0.1 * normal(len(counts))
    species = torch.tensor(_SPECIES)[torch.randint(len(_SPECIES), (total,), generator=random)]
    momenta = Momenta(
        pt=torch.exp(1.3 + 1.5 * normal(total)),
        rapidity=axis_y.repeat_interleave(sizes) + 0.12 * normal(total),
        phi=wrap_phi(axis_phi.repeat_interleave(sizes) + 0.12 * normal(total)),
        mass=torch.where(species == 22, 0.0, 0.1 + normal(total).abs()),
    )
    ptr = ptr_of(sizes)
    labels = torch.arange(len(counts)) % 2
    impact = Impact(*((0.2 * normal(total)).abs() if "error" in name else normal(total) for name in Impact._fields))
    momenta = Momenta(*(component.to(dtype) for component in momenta))
    return JetBatch(momenta, ptr, species, labels, Impact(*(values.to(dtype) for values in impact)))


def boosted(jets: JetBatch, rapidity: float, angle: float) -> JetBatch:
    """The jets after a boost along the beam and a rotation about it (``angle`` in rad)."""
    momenta = jets.momenta
    return jets.with_momenta(momenta._replace(rapidity=momenta.rapidity + rapidity, phi=wrap_phi(momenta.phi + angle)))


def reordered(jets: JetBatch, order: Sequence[int], shuffle_particles: bool = False) -> JetBatch:
    """The jets of a batch at the indices ``order``, in that order, optionally with shuffled particles."""
    moved = JetBatch.concatenate([jets.part(jet, jet + 1) for jet in order])
    if not shuffle_particles:
        return moved
    values = torch.rand(moved.batch.numel(), generator=torch.Generator().manual_seed(0))
    return moved.with_particles(falling(values.to(moved.ptr.device), moved.batch), moved.ptr)


def assert_permutation_invariant(function: Callable[[JetBatch], Tensor], jets: JetBatch, tolerance: float) -> None:
    """Assert that the results, one row per jet, do not depend on the order of particles."""
    shuffled = reordered(jets, range(len(jets)), shuffle_particles=True)
    assert_close(function(shuffled), function(jets), rtol=0, atol=tolerance)


def assert_batch_independent(function: Callable[[JetBatch], Tensor], jets: JetBatch, tolerance: float) -> None:
    """Assert that the result of a jet depends neither on other jets of the batch nor on its position."""
    expected = function(jets)
    backwards = list(reversed(range(len(jets))))
    assert_close(function(reordered(jets, backwards)), expected[backwards], rtol=0, atol=tolerance)
    alone = torch.cat([function(reordered(jets, [jet])) for jet in range(len(jets))])
    assert_close(alone, expected, rtol=0, atol=tolerance)


def assert_boost_invariant(function: Callable[[JetBatch], Tensor], jets: JetBatch, tolerance: float) -> None:
    """Assert that results are invariant under boosts along the beam and rotations about it."""
    expected = function(jets)
    for rapidity, angle in ((0.7, 0.0), (-1.9, 0.0), (0.0, 2.5), (1.3, -4.0)):
        assert_close(function(boosted(jets, rapidity, angle)), expected, rtol=0, atol=tolerance)


def assert_all_gradients(model: nn.Module, jets: JetBatch, powerless: Sequence[str] = ()) -> None:
    """Assert that all gradients are finite and that every parameter, except ``powerless`` ones, receives one.

    A parameter receives a gradient if the largest absolute entry exceeds 1e-6 of the largest in the model, so that
    rounding errors do not count.

    Args:
        model: the model.
        jets: its input.
        powerless: suffixes of the names of parameters without influence, such as ``lin_key.bias`` under a softmax;
            their gradients must not exceed that limit.
    """
    model.zero_grad()
    out = model(jets)
    # Unequal weights, so that nothing cancels.
    (out * torch.linspace(0.3, 1.7, out.numel(), dtype=out.dtype, device=out.device).view_as(out)).sum().backward()
    sizes = {name: 0.0 if p.grad is None else p.grad.abs().max().item() for name, p in model.named_parameters()}
    for name, size in sizes.items():
        learns = size > 1e-6 * max(sizes.values())
        if not math.isfinite(size) or learns == name.endswith(tuple(powerless)):
            raise AssertionError(f"the gradient of {name} is at most {size}, the largest of all {max(sizes.values())}")
