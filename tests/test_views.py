"""Views of jets: the same for every source, and idempotent."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from iagraph.data import JetDataset, Jets, JetStore, StoredJets, write_store
from iagraph.jets import JetBatch
from iagraph.kinematics import Impact, Momenta
from iagraph.testing import random_jets
from iagraph.views import JetView, mass_mismatch, massive_fraction

VIEWS = [JetView(), JetView(3), JetView(masses="zero"), JetView(1, "zero"), JetView(50, "zero")]
COUNTS = [5, 0, 17, 1, 3, 8, 2]


def stored(counts):
    """Jets whose pT are often equal, with species and impact parameters that tell all particles apart."""
    total = sum(counts)
    number = np.arange(total, dtype=np.float32)
    columns = dict.fromkeys(("rapidity", "phi", *Impact._fields), number / (total + 1))
    columns |= {"mass": number + 1, "pt": np.random.default_rng(3).integers(1, 4, total).astype(np.float32)}
    columns["pid"] = np.arange(total, dtype=np.int32)
    return Jets(columns, np.cumsum([0, *counts]), np.arange(len(counts)) % 2, ("a", "b"))


def equal(one, other):
    assert one.ptr.equal(other.ptr)
    assert one.y.equal(other.y)
    assert one.pid.equal(other.pid)
    columns = zip((*one.momenta, *one.impact), (*other.momenta, *other.impact), strict=True)
    return all(mine.equal(yours) for mine, yours in columns)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_loaders_and_views_agree(view, tmp_path):
    write_store(tmp_path / "jets.h5", stored(COUNTS))
    whole, arguments = JetDataset(stored(COUNTS))[:], (view.max_particles, view.masses)
    before = whole.momenta.mass.clone()
    seen = view(whole)
    assert equal(seen, JetDataset(stored(COUNTS), *arguments)[:])
    assert equal(seen, StoredJets([JetStore(tmp_path / "jets.h5")], *arguments)[:])
    assert equal(view(seen), seen)
    assert whole.ptr.diff().tolist() == COUNTS
    assert whole.momenta.mass.equal(before)


@given(counts=st.lists(st.integers(0, 9), max_size=5), most=st.integers(1, 10))
def test_hardest_particles_are_kept_with_ties_by_order(counts, most):
    jets = stored(counts)
    expected = []
    for begin, end in zip(jets.offsets[:-1], jets.offsets[1:], strict=True):
        expected += sorted(range(begin, end), key=lambda k: -jets.particles["pt"][k])[:most]  # stable sort
    seen = JetView(most)(JetDataset(jets)[:])
    assert seen.pid.tolist() == expected
    assert seen.ptr.diff().tolist() == [min(count, most) for count in counts]


def test_by_hand():
    momenta = Momenta(*torch.tensor([[1.0, 5, 5, 2], [0.1, 0.2, 0.3, 0.4], [0, 1, 2, 3], [9, 8, 7, 6]]))
    seen = JetView(2, "zero")(JetBatch(momenta, torch.tensor([0, 3, 4])))
    assert seen.ptr.tolist() == [0, 2, 3]
    assert (
        torch.stack(tuple(seen.momenta)).tolist()
        == torch.tensor([[5, 5, 2], [0.2, 0.3, 0.4], [1, 2, 3], [0, 0, 0]]).tolist()
    )
    assert seen.pid is seen.y is seen.impact is None


def test_massless_particles_change_the_jets_that_features_refer_to():
    jets = random_jets([3, 7])
    expected = JetBatch(jets.momenta._replace(mass=torch.zeros_like(jets.momenta.mass)), jets.ptr).node_features("kin")
    jets.node_features("kin")  # computes and keeps the massive jets
    torch.testing.assert_close(JetView(masses="zero")(jets).node_features("kin"), expected, rtol=0, atol=0)


def test_gradients_reach_visible_particles():
    jets = random_jets([4])
    pt = jets.momenta.pt.clone().requires_grad_()
    JetView(2)(replace(jets, momenta=jets.momenta._replace(pt=pt))).momenta.pt.sum().backward()
    assert pt.grad[pt.argsort(descending=True)].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "message"), [((0,), "at least 1, found 0"), ((None, "none"), "'stored' or 'zero', found 'none'")]
)
def test_invalid_views_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        JetView(*arguments)


def with_masses(massive, number=1000):
    """A jet in which a given number of particles have a mass."""
    mass = (torch.arange(number) < massive).float()
    return JetBatch(Momenta(torch.ones(number), mass, mass, mass), torch.tensor([0, number]))


@pytest.mark.parametrize(
    ("trained", "massive", "differs"),
    [
        (0.7, 0, True),
        (0.7, 69, True),
        (0.7, 71, False),
        (0.0, 600, True),
        (0.0, 51, True),
        (0.0, 49, False),
        (0.0, 0, False),
        (None, 0, False),
    ],
)
def test_fractions_of_massive_particles(trained, massive, differs):
    jets = with_masses(massive)
    assert massive_fraction(jets) == massive / 1000
    mismatch = mass_mismatch(trained, jets)
    assert (mismatch is not None) == differs
    if differs:
        assert f"{trained:.0%} of the particles in training had a mass, here {massive / 1000:.0%} have one" in mismatch


def test_few_particles_give_no_warning():
    assert mass_mismatch(0.7, with_masses(0, 99)) is None
    assert mass_mismatch(0.7, with_masses(0, 100)) is not None
