import math

import pytest
import torch
from scipy.stats import kstest, norm
from torch import Generator

from iagraph.interpret.perturbations import drop_particles, drop_soft, smear_direction, smear_pt
from iagraph.testing import random_jets

COUNTS = [5, 0, 1, 13, 2]
MANY = [47] * 211


def numbers(seed=1):
    return Generator().manual_seed(seed)


def test_pt_factors_are_normal_around_one():
    jets = random_jets(MANY, 1, torch.float64)
    changed = smear_pt(jets, 0.07, numbers())
    factors = changed.momenta.pt / jets.momenta.pt
    assert kstest(factors.numpy(), norm(1, 0.07).cdf).pvalue > 0.01
    for name in ("rapidity", "phi", "mass"):
        assert getattr(changed.momenta, name).equal(getattr(jets.momenta, name))
    assert changed.ptr.equal(jets.ptr)


def test_pt_stays_positive_and_the_input_unchanged():
    jets = random_jets(MANY, 2)
    before = jets.momenta.pt.clone()
    assert smear_pt(jets, 3.0, numbers()).momenta.pt.min() > 0
    assert jets.momenta.pt.equal(before)
    assert smear_pt(jets, 0.0, numbers()).momenta.pt.equal(before)


def test_directions_move_by_independent_normal_shifts():
    jets = random_jets(MANY, 3, torch.float64)
    changed = smear_direction(jets, 0.013, numbers())
    moved_y = (changed.momenta.rapidity - jets.momenta.rapidity).numpy()
    turned = changed.momenta.phi - jets.momenta.phi
    assert turned.abs().max() > 6  # some went across phi = pi
    moved_phi = torch.remainder(turned + math.pi, 2 * math.pi).sub(math.pi).numpy()
    for moved in (moved_y, moved_phi):
        assert kstest(moved, norm(0, 0.013).cdf).pvalue > 0.01
    assert abs((moved_y * moved_phi).mean()) < 4 * 0.013**2 / len(moved_y) ** 0.5
    assert changed.momenta.phi.min() >= -math.pi
    assert changed.momenta.phi.max() < math.pi
    assert changed.momenta.pt.equal(jets.momenta.pt)


@pytest.mark.parametrize("change", [smear_pt, smear_direction, drop_particles])
def test_seed_fixes_the_jets_across_batches(change):
    jets = random_jets(COUNTS, 4)
    one, again, other = (change(jets, 0.3, numbers(seed)).momenta for seed in (1, 1, 2))
    assert all(map(torch.equal, one, again))
    assert not _same(one, other)
    generator = numbers()
    assert not _same(change(jets, 0.3, generator).momenta, change(jets, 0.3, generator).momenta)


def _same(one, other):
    return one.pt.equal(other.pt) and one.phi.equal(other.phi)


def test_jets_keep_their_hardest_particle_and_empty_jets_stay_empty():
    jets = random_jets(COUNTS, 6)
    for left in (drop_particles(jets, 1.0, numbers()), drop_soft(jets, math.inf)):
        assert left.ptr.tolist() == [0, 1, 1, 2, 3, 4]
        hardest = [jets.momenta.pt[jets.batch == jet].max() for jet in (0, 2, 3, 4)]
        assert left.momenta.pt.tolist() == hardest
    nothing = drop_particles(jets, 0.0, numbers())
    assert nothing.momenta.pt.equal(jets.momenta.pt)


def test_particles_are_dropped_with_the_given_probability():
    jets = random_jets(MANY, 7)
    left = drop_particles(jets, 0.2, numbers()).momenta.pt.numel()
    total = sum(MANY)
    assert abs(left - 0.8 * total) < 4 * math.sqrt(0.2 * 0.8 * total)


def test_soft_particles_are_dropped_before_features():
    jets = random_jets(COUNTS, 8)
    left = drop_soft(jets, 2.0)
    assert left.momenta.pt.tolist() == [
        pt
        for pt, jet in zip(jets.momenta.pt.tolist(), jets.batch.tolist(), strict=True)
        if pt >= 2 or pt == jets.momenta.pt[jets.batch == jet].max() < 2
    ]
    # The jet is the sum of the remaining particles, so fractions of its pT change.
    share = left.node_features("kin")[:, 2].exp()
    alone = jets.part(0, 1)
    kept = alone.momenta.pt >= 2
    px = (alone.momenta.pt * alone.momenta.phi.cos())[kept].sum()
    py = (alone.momenta.pt * alone.momenta.phi.sin())[kept].sum()
    torch.testing.assert_close(share[: int(kept.sum())], alone.momenta.pt[kept] / torch.hypot(px, py))


def test_unknown_species_and_impact():
    jets = random_jets(COUNTS, 9)
    jets.pid = jets.impact = jets.y = None
    left = drop_soft(jets, 3.0)
    assert (left.pid, left.impact, left.y) == (None, None, None)
