import pytest
import torch

from iagraph.interpret.deletion import areas, decision_left, deletion_logits, drop_first, faithfulness, relative_area
from iagraph.interpret.particles import keep
from iagraph.models import IAFormer
from iagraph.testing import random_jets, reordered


def test_fractions_of_jets_are_dropped():
    jets = random_jets([10, 0, 1, 7], 3)
    worth = torch.arange(18.0)
    left = drop_first(jets, worth, 0.3)
    assert left.ptr.diff().tolist() == [7, 0, 1, 5]
    assert left.momenta.pt.equal(jets.momenta.pt[[*range(7), 10, *range(11, 16)]])
    assert drop_first(jets, worth, 0.0).momenta.pt.equal(jets.momenta.pt)


def test_logits_equal_those_of_reduced_jets():
    torch.manual_seed(1)
    model = IAFormer(width=6, blocks=1, heads=3, particle_hidden=[7], pair_hidden=[5], pair_width=11).eval()
    jets = random_jets([5, 4], 4)
    hardest = deletion_logits(model, jets, jets.momenta.pt, (0.0, 0.5))
    torch.testing.assert_close(hardest[0], model(jets))
    for jet, dropped in ((0, 2), (1, 2)):
        one = reordered(jets, [jet])
        order = one.momenta.pt.argsort()
        kept = torch.zeros(order.numel(), dtype=torch.bool)
        kept[order[: order.numel() - dropped]] = True
        torch.testing.assert_close(hardest[1, jet : jet + 1], model(keep(one, kept)))


def test_areas_by_hand():
    logits = torch.tensor([[[0.0, 2.0], [3.0, 0.0]], [[0.0, 1.0], [3.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
    left = decision_left(logits, torch.tensor([1, 1]))
    assert left.tolist() == [[2.0, 3.0], [1.0, -1.0], [-1.0, 0.0]]
    fractions = (0.0, 0.2, 0.8)
    first = (0.2 * 1.5 + 0.6 * 0.0) / 0.8
    second = (0.2 * 1.0 + 0.6 * -0.5) / 0.8
    torch.testing.assert_close(areas(left, fractions), torch.tensor([first, second]))
    assert relative_area(left, fractions).value == pytest.approx((first + second) / 5)
    whole = left[:1].expand(3, 2)
    assert relative_area(whole, fractions) == pytest.approx((1.0, 0.0))
    assert faithfulness(left, whole, fractions).value == pytest.approx(1 - (first + second) / 5)
    # Of three classes, the evidence for the one that is asked for.
    more = torch.tensor([[[1.0, 3.0, 8.0]], [[1.0, 3.0, 0.0]]])
    assert decision_left(more, torch.tensor([2])).tolist() == [[6.0], [-2.0]]
