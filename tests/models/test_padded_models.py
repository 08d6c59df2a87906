"""Models on jets in slots: equal to those on ragged jets, and one graph for ``torch.compile``."""

import copy

import pytest
import torch
from every_model import COUNTS, every_model, model

from iagraph.models import ParticleNet, ParticleTransformer, PlainTransformer
from iagraph.testing import random_jets

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


@every_model
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_logits_and_gradients_equal_those_of_ragged_jets(make, training, dtype, tolerance, request):
    net = without_dropout(make, node_features="kinpid").to(dtype).train(training)
    jets = random_jets(JETS, dtype=dtype)
    expected = learned(net, jets)
    assert expected["logits"].std(0).min() > 1e-2  # the jets differ
    for slots, surplus in ((max(JETS), 0), (max(JETS) + 4, 3)):
        found = learned(net, jets.padded(slots, len(jets) + surplus))
        assert found.keys() == expected.keys()
        for name, values in found.items():
            size = expected[name].abs().max().clamp(min=1)
            torch.testing.assert_close(values / size, expected[name] / size, rtol=0, atol=tolerance, msg=name)


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
