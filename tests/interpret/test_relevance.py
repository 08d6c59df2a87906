import pytest
import torch
from small_models import PAIRS, SMALL, drawn

from iagraph.interpret.interventions import trace
from iagraph.interpret.relevance import (
    evidence,
    fed,
    frozen,
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    scaled_features,
)
from iagraph.models import IAFormer, LearnedPairIAFormer, ParticleTransformer
from iagraph.segment import segment_sum
from iagraph.testing import random_jets

MODELS = {
    "part": lambda **more: ParticleTransformer(**SMALL, class_blocks=1, pair_hidden=[5], **more),
    "iaformer": lambda **more: IAFormer(**SMALL, **PAIRS, **more),
}
COUNTS = [5, 0, 1, 13]
CLASSES = torch.tensor([1, 0, 1, 0])
METHODS = [grad_cam, gradient_times_input, integrated_gradients]


def make(name, **more):
    return drawn(lambda: MODELS[name](**more))


def per_jet(values, jets):
    return segment_sum(values, jets.batch, len(jets))


def test_evidence():
    logits = torch.tensor([[1.0, 5.0, 3.0], [2.0, 4.0, 9.0]])
    assert evidence(logits, torch.tensor([1, 0])).tolist() == [3.0, -4.5]
    assert evidence(logits[:, :2], torch.tensor([1, 0])).tolist() == [4.0, -2.0]  # differences of two logits
    with pytest.raises(ValueError, match="at least two classes"):
        evidence(logits[:, :1], torch.tensor([0, 0]))


@pytest.mark.parametrize("name", MODELS)
def test_models_accept_given_features(name):
    model, jets = make(name), random_jets(COUNTS, 1).double()
    features, expected = scaled_features(model, jets), model(jets)
    with fed(model, features):
        torch.testing.assert_close(model(jets), expected)
    features[7] += 0.5
    with fed(model, features):
        change = (model(jets) - expected).abs().amax(1)
    assert change[:3].max() < 1e-12
    assert change[3] > 1e-6
    assert not model.scale_particles._forward_hooks


def test_parameters_require_gradients_afterwards():
    model = make("iaformer")
    model.head.bias.requires_grad_(False)
    with frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["head.bias"]


def test_grad_cam_of_the_last_block_by_hand():
    model, jets = make("iaformer"), random_jets(COUNTS, 2).double()
    x = trace(model, jets).x[-1]
    own = model.head.weight[CLASSES] - model.head.weight[1 - CLASSES]
    # dl/dx_ic = W_c / n for each particle, and so is its mean.
    expected = (own[jets.batch] * x).sum(1) / jets.ptr.diff()[jets.batch]
    signed = grad_cam(model, jets, CLASSES, signed=True)
    torch.testing.assert_close(signed, expected.detach())
    assert grad_cam(model, jets, CLASSES).equal(signed.relu())
    bias = model.head.bias[CLASSES] - model.head.bias[1 - CLASSES]
    torch.testing.assert_close(per_jet(signed, jets) + bias, evidence(model(jets), CLASSES))


@pytest.mark.parametrize("name", MODELS)
def test_grad_cam_of_an_early_block_by_finite_differences(name):
    model, jets, step = make(name), random_jets(COUNTS, 3).double(), 1e-6
    x = trace(model, jets).x[1]

    def value(channel):
        def shift(module, inputs, output):
            moved = output.clone() if isinstance(output, torch.Tensor) else output.x.clone()
            moved[:, channel] += step
            return moved if isinstance(output, torch.Tensor) else output._replace(x=moved)

        hook = model.blocks[0].register_forward_hook(shift)
        logits = model(jets)
        hook.remove()
        return evidence(logits, CLASSES)

    start = evidence(model(jets), CLASSES)
    # The sum of the gradients over the particles is the slope if all of them move together.
    slopes = torch.stack([(value(channel) - start) / step for channel in range(6)], 1)
    weights = (slopes / jets.ptr.diff().clamp(min=1).unsqueeze(1))[jets.batch]
    found = grad_cam(model, jets, CLASSES, block=0, signed=True)
    torch.testing.assert_close(found, (weights * x).sum(1).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_gradient_times_input_by_finite_differences(name):
    model, jets, step = make(name), random_jets(COUNTS, 4).double(), 1e-6
    features = scaled_features(model, jets)
    found = gradient_times_input(model, jets, CLASSES)
    for particle in (0, 9):
        moved = features.clone()
        moved[particle] *= 1 + step
        with fed(model, moved), torch.no_grad():
            high = evidence(model(jets), CLASSES).sum()
        slope = (high - evidence(model(jets), CLASSES).sum()) / step
        torch.testing.assert_close(found[particle], slope.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_integrated_gradients_add_up_to_the_difference(name):
    model, jets = make(name), random_jets(COUNTS, 5).double()
    with fed(model, torch.zeros_like(scaled_features(model, jets))):
        start = evidence(model(jets), CLASSES)
    found = per_jet(integrated_gradients(model, jets, CLASSES, steps=80), jets)
    torch.testing.assert_close(found, (evidence(model(jets), CLASSES) - start).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_jets_are_independent_and_models_unchanged(name, method):
    model, jets = make(name), random_jets(COUNTS, 6).double()
    together = method(model, jets, CLASSES)
    alone = [method(model, jets.part(jet, jet + 1), CLASSES[jet : jet + 1]) for jet in range(4)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.shape == (19,)
    assert not together.requires_grad
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_evidence_against_a_class_has_opposite_relevance(method):
    model, jets = make("part"), random_jets([5, 3], 7).double()
    more = {"signed": True} if method is grad_cam else {}
    first, second = (method(model, jets, torch.full((2,), number), **more) for number in (0, 1))
    torch.testing.assert_close(first, -second)


def test_third_class():
    model, jets = make("iaformer", num_classes=3), random_jets([5, 3], 8).double()
    total = sum(gradient_times_input(model, jets, torch.full((2,), number)) for number in range(3))
    torch.testing.assert_close(total, torch.zeros(8).double(), atol=1e-12, rtol=0)


def test_learned_pairs_follow_the_features():
    torch.manual_seed(1)
    model, jets = LearnedPairIAFormer(**SMALL, **PAIRS).double().eval(), random_jets([5, 3], 9).double()
    with fed(model, torch.zeros(8, 7).double()):
        start = evidence(model(jets), CLASSES[:2])
    found = per_jet(integrated_gradients(model, jets, CLASSES[:2], steps=80), jets)
    torch.testing.assert_close(found, (evidence(model(jets), CLASSES[:2]) - start).detach(), rtol=1e-4, atol=1e-4)
