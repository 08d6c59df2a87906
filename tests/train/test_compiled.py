"""Training by ``torch.compile``: few shapes, and the runs, weights and resuming of any other training."""

import re

import pytest
import torch
from as_on_a_gpu import AsOnAGPU
from interrupted_runs import BATCH, STEPS, StopError, assert_same, stopped_at
from torch.nn.functional import cross_entropy
from toy_runs import settings, weights

from iagraph.models import PlainTransformer
from iagraph.testing import random_jets
from iagraph.train.compiled import InSlots, slots_for
from iagraph.train.config import load_config
from iagraph.train.folder import new_model
from iagraph.train.module import Tagger
from iagraph.train.run import resume, train_into


@pytest.fixture
def shapes(monkeypatch):
    """Compile without C++; the fixture is the list of the programs' numbers of nodes."""
    compiled = []

    def backend(program, inputs):
        compiled.append(len(program.graph.nodes))
        return program.forward

    torch._dynamo.reset()
    monkeypatch.setattr(InSlots, "backend", staticmethod(backend))
    yield compiled
    torch._dynamo.reset()


def test_numbers_of_slots_are_few_and_large_enough():
    slots = [slots_for(particles) for particles in range(1025)]
    assert all(particles <= number for particles, number in enumerate(slots))
    assert sorted(set(slots)) == [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]


def test_one_program_for_each_number_of_slots(shapes):
    torch.manual_seed(1)
    net = PlainTransformer("kinpid", width=6, blocks=1, heads=3, particle_hidden=(5,)).double()
    names, compiled = list(net.state_dict()), InSlots(net, 5)
    for counts in ([3, 0, 16], [11, 5, 7, 2, 1], [17, 4]):
        jets = random_jets(counts, dtype=torch.float64)
        gradients = []
        for network in (compiled, net):
            net.zero_grad()
            logits = network(jets)
            cross_entropy(logits, jets.y, reduction="sum").backward()
            gradients.append([logits.detach(), *(parameter.grad for parameter in net.parameters())])
        torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-11)
    assert len(shapes) == 2
    assert list(net.state_dict()) == names


@pytest.mark.slow
def test_interrupted_run_ends_like_an_uninterrupted_one(store, tmp_path, monkeypatch, shapes):
    recipe = settings(store, tmp_path, f"data.batch_size={BATCH}", "train.compile=true", "train.ema=0.9")
    train_into(tmp_path / "undisturbed", recipe)
    assert shapes
    with stopped_at(monkeypatch, (Tagger, "training_step"), STEPS + 3), pytest.raises(StopError):
        train_into(tmp_path / "run", recipe)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "undisturbed")
    names = weights(tmp_path / "run").keys()
    assert names == new_model(recipe, ("gluon", "quark")).state_dict().keys()


LAUNCH = re.compile(r"^ +(?:\w+ = )?(?:extern_kernels\.|cpp_fused|torch\.ops\.|aten\.)\w+", re.MULTILINE)
"""A call, in a compiled program, of a product, a fused kernel or another operator."""


@pytest.mark.slow
@pytest.mark.skipif(torch.__version__ < "2.13", reason="older versions fuse less")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing inductor
def test_compiled_step_of_the_recipe_launches_few_kernels():
    from torch._inductor.utils import run_and_get_code

    net = new_model(load_config("qg_gpu"), ("gluon", "quark"))
    optimizer, compiled = torch.optim.AdamW(net.parameters()), InSlots(net, 5)

    def learn():
        optimizer.zero_grad()
        jets = random_jets([3, 0, 16, 11])
        cross_entropy(compiled(jets), jets.y).backward()

    def update():
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    _, programs = run_and_get_code(learn)
    update()  # creates the optimiser's state
    with AsOnAGPU(*(state["step"] for state in optimizer.state.values())) as updating:
        update()
    forward, backward = (len(LAUNCH.findall(program)) for program in programs)
    assert min(forward, backward) > 20
    assert forward + backward + updating.launches.total() <= 140
