"""What models ask of a GPU: the same numbers as on a CPU, no waits of the host, and few launches."""

from typing import NamedTuple

import pytest
import torch
from as_on_a_gpu import AsOnAGPU
from every_model import COUNTS, every_attention_model, every_model, model
from torch.nn.functional import cross_entropy

from iagraph import segment
from iagraph.graph import dense, fully_connected
from iagraph.models import (
    CascadedIAFormer,
    GatedIAFormer,
    IAFormer,
    ParticleNet,
    ParticleTransformer,
)
from iagraph.nn import EdgeBudget, Threshold, TopK, TopP
from iagraph.testing import random_jets

pytestmark = pytest.mark.skipif(
    not segment.UNAVAILABLE,
    reason="torch-scatter is used for sorted edges, and the host waits to know whether they are",
)


def learned(net, jets, *edges):
    """Logits and all gradients."""
    net.zero_grad()
    logits = net(jets, *edges)
    # Asymmetric weights, so that nothing cancels.
    (logits * torch.linspace(0.3, 1.7, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
    return [logits.detach(), *(parameter.grad for parameter in net.parameters())]


def assert_equal_on_a_gpu(net, *edges):
    """The branches for GPUs give the numbers of those for CPUs; returns the waits."""
    jets = random_jets([0, *COUNTS], dtype=torch.float64).to("cpu")  # which keeps the multiplicities on the host
    expected = learned(net, jets, *edges)
    with AsOnAGPU() as gpu:
        found = learned(net, jets, *edges)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
    assert not gpu.misplaced
    return gpu.waits


@pytest.fixture
def several_blocks(monkeypatch):
    """As many dense blocks as for many jets."""
    monkeypatch.setattr(dense, "EDGES_OF_BLOCK_ON_GPUS", 1)


def without_pruning(make):
    return {"pruning": None} if make is CascadedIAFormer else {}


@pytest.mark.usefixtures("several_blocks")
@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_gpu_branches_agree_without_waits(make, training):
    settings = {"dropout": 0.0} if make in (ParticleTransformer, ParticleNet) else without_pruning(make)
    assert not assert_equal_on_a_gpu(model(make, **settings).double().train(training))


@pytest.mark.usefixtures("several_blocks")
@pytest.mark.parametrize("tightness", [0.0, 0.3, 1.0])
def test_gates_do_not_wait_while_they_tighten(tightness):  # in dense blocks, then in lists of edges
    net = model(GatedIAFormer, gate_fraction=0.2).double().train()
    net.pair_inputs.gate.tightness = tightness
    assert not assert_equal_on_a_gpu(net)


@pytest.mark.usefixtures("several_blocks")
@pytest.mark.parametrize("rule", [Threshold(0.03), TopK(3), TopP(0.8), EdgeBudget(fraction=0.4)], ids=str)
def test_rules_wait_once_in_each_block_for_the_number_of_edges(rule):
    (wait,) = assert_equal_on_a_gpu(model(IAFormer, pruning=rule).double()).items()
    assert (wait[0].partition(" ")[0], wait[1]) == ("nonzero", 2)


@every_attention_model
def test_given_edges_are_checked_and_their_pairs_and_the_kept_ones_counted(make):
    edges = fully_connected(random_jets([0, *COUNTS]).ptr)
    waits = assert_equal_on_a_gpu(model(make, **without_pruning(make)).double(), edges)
    assert waits.total() == (4 if issubclass(make, GatedIAFormer) else 2), waits


class Budget(NamedTuple):
    """Largest numbers of launches in inference, and in a training step with its optimiser, for one dense block."""

    inference: int
    training: int
    another_block: int
    """Largest number of further launches in a training step for each further block."""


# Narrow networks with as many layers as the published ones: widths do not change numbers of launches.
SIZES = {"width": 6, "heads": 3, "particle_hidden": (7, 5)}
NETWORKS = {
    "IAFormer": (lambda: IAFormer("kinpid", "iaformer", **SIZES, blocks=4, pair_hidden=(7, 5)), Budget(355, 600, 110)),
    "IAFormer lite": (lambda: GatedIAFormer("kinpid", **SIZES, blocks=3, pair_hidden=(7,)), Budget(385, 610, 0)),
    "ParT": (lambda: ParticleTransformer("kinpid", **SIZES, pair_hidden=(7, 5, 11)), Budget(605, 1325, 230)),
    "ParticleNet": (
        lambda: ParticleNet("kinpid", channels=((5,) * 3, (7,) * 3, (11,) * 3), neighbors=4, head_hidden=13),
        Budget(310, 785, 80),
    ),
}


@pytest.mark.skipif(torch.__version__ < "2.13", reason="older versions launch more for some functions")
@pytest.mark.parametrize(("batch_size", "blocks"), [(64, 1), (512, 2)])
@pytest.mark.parametrize("name", NETWORKS)
def test_launches_are_within_budget(name, batch_size, blocks, monkeypatch):
    make, budget = NETWORKS[name]
    torch.manual_seed(0)
    sizes = [5 * k % 13 for k in range(batch_size)]
    # As of so many jets of the usual sizes, whose edges are much more.
    monkeypatch.setattr(dense, "EDGES_OF_BLOCK_ON_GPUS", sum(size**2 for size in sizes) // blocks)
    net, jets = make(), random_jets(sizes).to("cpu")
    optimizer = torch.optim.AdamW(net.parameters())

    def step():
        optimizer.zero_grad()
        cross_entropy(net(jets), jets.y).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    step()  # creates the optimiser's state
    with AsOnAGPU(*(state["step"] for state in optimizer.state.values())) as training:
        step()
    with torch.no_grad(), AsOnAGPU() as inference:
        net.eval()(jets)
    more = (blocks - 1) * budget.another_block
    assert not inference.waits + training.waits + inference.misplaced + training.misplaced
    assert inference.launches.total() <= budget.inference + more, inference.launches
    assert training.launches.total() <= budget.training + more, training.launches
