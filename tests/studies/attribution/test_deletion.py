import math

import pytest
import torch

from iagraph.models import IAFormer
from iagraph.studies.attribution.deletion import (
    areas,
    decision_left,
    deletion_logits,
    drop_first,
    faithfulness,
    keep_particles,
    ranks,
    relative_area,
)
from iagraph.studies.estimates import mean, ratio
from iagraph.testing import random_jets, reordered


def test_ranks():
    jets = random_jets([3, 0, 4, 1], 1)
    worth = torch.tensor([0.5, 2.0, -1.0, 3.0, 3.0, 7.0, -2.0, 0.0])
    assert ranks(worth, jets).tolist() == [1, 0, 2, 1, 2, 0, 3, 0]


def test_particles_are_kept_with_all_that_is_known_of_them():
    jets = random_jets([3, 0, 4, 1], 2)
    kept = keep_particles(jets, torch.tensor([1, 0, 1, 0, 0, 0, 1, 0], dtype=torch.bool))
    assert kept.ptr.tolist() == [0, 2, 2, 3, 3]
    for part, whole in zip(
        (*kept.momenta, kept.pid, *kept.impact), (*jets.momenta, jets.pid, *jets.impact), strict=True
    ):
        assert part.equal(whole[[0, 2, 6]])
    assert kept.y.equal(jets.y)
    jets.pid = jets.impact = None
    assert keep_particles(jets, torch.ones(8, dtype=torch.bool)).pid is None


def test_fractions_of_jets_are_dropped():
    jets = random_jets([10, 0, 1, 7], 3)
    worth = torch.arange(18.0)
    left = drop_first(jets, worth, 0.3)
    assert left.ptr.diff().tolist() == [7, 0, 1, 5]
    assert left.momenta.pt.equal(jets.momenta.pt[[*range(7), 10, *range(11, 16)]])
    assert drop_first(jets, worth, 0.0).momenta.pt.equal(jets.momenta.pt)


def test_logits_are_those_of_the_jets_that_are_left():
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
        torch.testing.assert_close(hardest[1, jet : jet + 1], model(keep_particles(one, kept)))


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


def test_ratio_is_right_on_average_and_so_is_its_error():
    random = torch.Generator().manual_seed(1)
    size = torch.rand(4000, 53, generator=random, dtype=torch.float64) + 0.5
    part = size * (0.3 + 0.2 * torch.randn(4000, 53, generator=random, dtype=torch.float64))
    found = torch.tensor([ratio(a, b) for a, b in zip(part, size, strict=True)])
    pulls = (found[:, 0] - 0.3) / found[:, 1]
    assert abs(float(pulls.mean())) < 0.06
    assert float(pulls.std()) == pytest.approx(1, abs=0.06)


def test_means():
    assert mean(torch.tensor([1.0, 2.0, 6.0])) == pytest.approx((3.0, math.sqrt(7 / 3)))
    assert math.isnan(mean(torch.tensor([2.0])).error)
    assert math.isnan(ratio(torch.zeros(3), torch.zeros(3)).value)
    assert math.isnan(mean(torch.zeros(0)).value)
