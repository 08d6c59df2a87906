"""Models on jets in slots: equal to those on ragged jets, and one graph for ``torch.compile``."""

import copy

import pytest
import torch
from every_model import COUNTS, every_model, model

from iagraph.models import ParticleNet, ParticleTransformer, PlainTransformer
from iagraph.testing import boosted, random_jets

JETS = [0, *COUNTS]


def without_dropout(make, **settings):
    return model(make, **settings, **{"dropout": 0.0} if make in (ParticleTransformer, ParticleNet) else {})


def learned(net, jets):
    """Logits, all gradients, and the statistics of norms behind it, by name; without surplus jets."""
    net = copy.deepcopy(net)
    logits = net(jets)[: len(JETS)]
    # Asymmetric weights, so that nothing cancels.
    (logits * torch.linspace(0.3, 1.7, logits.numel(), dtype=logits.dtype).view_as(logits)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"logits": logits.detach()} | gradients | dict(net.named_buffers())


def errors(found, expected):
    """Largest difference of each value, relative to the largest expected one if that exceeds 1, by name."""
    assert found.keys() == expected.keys()
    return {
        name: ((values - expected[name]).abs().max() / expected[name].abs().max().clamp(min=1)).item()
        for name, values in found.items()
    }


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_logits_and_gradients_equal_those_of_ragged_jets(make, training):
    net = without_dropout(make, node_features="kinpid").double().train(training)
    jets = random_jets(JETS, dtype=torch.float64)
    expected = learned(net, jets)
    assert expected["logits"].std(0).min() > 1e-2  # the jets differ
    for slots, surplus in ((max(JETS), 0), (max(JETS) + 4, 3)):
        found = errors(learned(net, jets.padded(slots, len(jets) + surplus)), expected)
        assert max(found.values()) < 1e-10, found


@every_model
def test_batches_without_jets_and_moved_momenta(make):
    net = without_dropout(make, node_features="kinpid").double().eval()
    jets = random_jets(JETS, dtype=torch.float64)
    assert net(jets.part(0, 0).padded(4)).shape == net(jets.part(0, 0)).shape
    torch.testing.assert_close(net(boosted(jets.padded(), 0.7, 2.1)), net(boosted(jets, 0.7, 2.1)), rtol=0, atol=1e-10)
    padded, heavier = jets.padded(), jets.with_momenta(jets.momenta._replace(mass=jets.momenta.mass + 0.14))
    moved = padded.with_momenta(padded.momenta._replace(mass=padded.momenta.mass + 0.14))  # of padding, too
    torch.testing.assert_close(net(moved), net(heavier), rtol=0, atol=1e-10)


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_slots_lose_no_more_digits_than_ragged_jets(make, training):
    net = without_dropout(make, node_features="kinpid").train(training)
    jets = random_jets(JETS)
    expected = learned(copy.deepcopy(net).double(), jets.double())
    ragged = max(errors(learned(net, jets), expected).values())
    for slots, surplus in ((max(JETS), 0), (max(JETS) + 4, 3)):
        in_slots = max(errors(learned(net, jets.padded(slots, len(jets) + surplus)), expected).values())
        assert in_slots < 2 * ragged < 1e-4


@pytest.fixture
def compiled():
    torch._dynamo.reset()
    yield lambda net: torch.compile(net, fullgraph=True, backend="aot_eager")
    torch._dynamo.reset()


@pytest.mark.slow
@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_all_models_compile_as_one_graph(make, training, compiled):
    net = without_dropout(make).double().train(training)
    jets = random_jets(JETS, dtype=torch.float64).padded(17)
    expected, found = learned(net, jets), learned(compiled(net), jets)
    for name, values in found.items():
        torch.testing.assert_close(values, expected[name.removeprefix("_orig_mod.")], rtol=1e-9, atol=1e-11, msg=name)


def test_model_compiles_as_one_graph(compiled):
    net = model(PlainTransformer, blocks=1).double()
    jets = random_jets(JETS, dtype=torch.float64).padded(17)
    torch.testing.assert_close(compiled(net)(jets), net(jets), rtol=0, atol=1e-12)
