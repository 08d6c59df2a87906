import pytest
import torch
from torch import nn

from iagraph.jets import JetBatch
from iagraph.segment import segment_sum
from iagraph.testing import (
    assert_all_gradients,
    assert_batch_independent,
    assert_boost_invariant,
    assert_permutation_invariant,
    boosted,
    random_jets,
    reordered,
)

JETS = random_jets([5, 3, 0, 7], dtype=torch.float64)


def total_pt(jets: JetBatch):
    return segment_sum(jets.momenta.pt, jets.batch, len(jets))


def hardest_first(jets: JetBatch):
    """A model that depends on the order of particles: it reads the first of each jet."""
    return torch.stack([jets.momenta.pt[begin] if begin < end else begin * 0.0 for begin, end in bounds(jets)])


def share_of_the_batch(jets: JetBatch):
    return total_pt(jets) / jets.momenta.pt.sum()


def bounds(jets):
    return zip(jets.ptr[:-1], jets.ptr[1:], strict=True)


def test_invariant_models_pass():
    assert_permutation_invariant(total_pt, JETS, 1e-12)
    assert_batch_independent(total_pt, JETS, 1e-12)
    assert_boost_invariant(total_pt, JETS, 1e-12)


def test_models_that_are_not_invariant_fail():
    with pytest.raises(AssertionError):
        assert_permutation_invariant(hardest_first, JETS, 1e-3)
    with pytest.raises(AssertionError):
        assert_batch_independent(share_of_the_batch, JETS, 1e-3)
    with pytest.raises(AssertionError):
        assert_boost_invariant(lambda jets: jets.momenta.rapidity, JETS, 1e-3)
    with pytest.raises(AssertionError):
        assert_boost_invariant(lambda jets: jets.momenta.phi, JETS, 1e-3)


class Counter(nn.Module):
    def __init__(self, connected):
        super().__init__()
        self.used, self.idle, self.connected = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1)), connected

    def forward(self, jets):
        # The softmax of a single number is always 1: connected, but without gradient.
        constant = self.idle.softmax(0) if self.connected else 1
        return total_pt(jets).unsqueeze(1) * self.used * constant


@pytest.mark.parametrize("connected", [False, True])
def test_parameters_without_gradient_are_named(connected):
    with pytest.raises(AssertionError, match="the gradient of idle is at most 0"):
        assert_all_gradients(Counter(connected), JETS)


def test_unexpected_gradients_are_named():
    assert_all_gradients(Counter(False), JETS, powerless=["idle"])
    with pytest.raises(AssertionError, match="the gradient of used is at most"):
        assert_all_gradients(Counter(False), JETS, powerless=["idle", "used"])


def test_reordering():
    moved = reordered(JETS, [3, 0])
    assert moved.ptr.tolist() == [0, 7, 12]
    assert moved.y.tolist() == [1, 0]
    assert torch.equal(moved.pid, torch.cat([JETS.pid[8:], JETS.pid[:5]]))
    assert torch.equal(moved.momenta.pt, torch.cat([JETS.momenta.pt[8:], JETS.momenta.pt[:5]]))


def test_boost_is_along_the_beam():
    moved = boosted(JETS, 0.5, 0.0)
    torch.testing.assert_close(moved.momenta.rapidity, JETS.momenta.rapidity + 0.5)
    assert all(torch.equal(getattr(moved.momenta, name), getattr(JETS.momenta, name)) for name in ("pt", "mass"))
