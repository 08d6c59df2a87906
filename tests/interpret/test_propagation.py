import pytest
import small_models
import torch
from small_models import PAIRS, SMALL, drawn
from torch import nn

from iagraph.graph import fully_connected
from iagraph.interpret.propagation import linear_rules
from iagraph.interpret.recording import record_attention
from iagraph.interpret.relevance import evidence, fed, layerwise_relevance, scaled_features
from iagraph.models import IAFormer
from iagraph.nn import BatchNorm, DifferentialAttentionConv
from iagraph.segment import segment_sum
from iagraph.testing import random_jets

MODELS = {name: make for name, make in small_models.MODELS.items() if name not in ("pruned", "pair")}
COUNTS = [5, 0, 1, 13, 2]
CLASSES = torch.tensor([1, 0, 1, 0, 0])


@pytest.fixture(params=list(MODELS))
def model(request):
    model = drawn(MODELS[request.param])
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BatchNorm):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model


@torch.no_grad()
def without_biases(model):
    """The class token of ParT is a constant, too."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name == "class_token":
            parameter.zero_()
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.zero_()


def test_relevance_adds_up_to_the_evidence_without_biases(model):
    without_biases(model)
    jets = random_jets(COUNTS, 1).double()
    relevance = layerwise_relevance(model, jets, CLASSES)
    found = segment_sum(relevance, jets.batch, 5)
    expected = evidence(model(jets), CLASSES).detach()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    assert expected[[0, 2, 3, 4]].abs().min() > 1e-3  # and none of it is nothing
    assert found[1] == 0


def test_missing_relevance_is_that_of_biases(model):
    """With all else constant, the evidence is affine in features and biases, so gradients times values add up to it."""
    jets = random_jets(COUNTS, 2).double()
    features = scaled_features(model, jets).requires_grad_()
    biases = [p for n, p in model.named_parameters() if n.endswith("bias") or n == "class_token"]
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.running_mean.zero_()  # a bias, too, but one without gradient
    with linear_rules(model), fed(model, features):
        value = evidence(model(jets, fully_connected(jets.ptr)), CLASSES)
    gradients = torch.autograd.grad(value.sum(), [features, *biases], allow_unused=True, materialize_grads=True)
    parts = [(g * v).sum() for g, v in zip(gradients, [features, *biases], strict=True)]
    torch.testing.assert_close(torch.stack(parts).sum(), value.sum(), rtol=1e-10, atol=1e-12)
    relevance = layerwise_relevance(model, jets, CLASSES)
    torch.testing.assert_close(relevance.sum(), parts[0].detach())


def test_outputs_and_model_are_unchanged(model):
    jets = random_jets(COUNTS, 3).double()
    expected = model(jets)
    with linear_rules(model):
        torch.testing.assert_close(model(jets, fully_connected(jets.ptr)), expected)
    for module in model.modules():
        assert not module._forward_hooks
        assert "weights" not in vars(module)


def test_attention_has_no_gradient():
    """One layer between two linear maps: relevance is the value that each particle sends, times all that arrives."""
    torch.manual_seed(2)
    model, jets = IAFormer(**{**SMALL, "blocks": 1}, **PAIRS).double().eval(), random_jets([4], 4).double()
    with torch.no_grad():
        model.blocks[0].conv.lin_score.weight *= 30
    layer, conv, block = record_attention(model, jets).layers[0], model.blocks[0].conv, model.blocks[0]
    assert isinstance(conv, DifferentialAttentionConv)
    model.particle_encoder = nn.Linear(7, 6, bias=False).double()
    block.norm_in, block.norm_out = nn.Identity(), nn.Identity()
    for parameter in block.feed_forward.parameters():
        nn.init.zeros_(parameter)
    nn.init.zeros_(model.head.bias)
    relevance = layerwise_relevance(model, jets, torch.tensor([1]))
    x = model.particle_encoder(scaled_features(model, jets))
    to_evidence = (model.head.weight[1] - model.head.weight[0]) / 4
    source, _ = layer.edge_index
    expected = x @ to_evidence  # the residual connection
    values = conv.lin_value(x).view(4, 3, 2)
    for edge, s in enumerate(source.tolist()):
        sent = (layer.alpha[edge].unsqueeze(1) * values[s]).flatten()
        expected = expected.index_add(0, torch.tensor([s]), (conv.lin_out(sent) @ to_evidence).unsqueeze(0))
    torch.testing.assert_close(relevance, expected.detach())
    assert (layer.alpha < 0).any()  # subtracted ones among them


@pytest.mark.parametrize(
    ("module", "constant"),
    [
        (nn.LayerNorm(3, eps=0.1), lambda x: (x - x.mean()) / (x.var(correction=0) + 0.1).sqrt().detach()),
        (nn.RMSNorm(3, eps=0.1), lambda x: x / (x.square().mean() + 0.1).sqrt().detach()),
        (nn.GELU(), lambda x: x * torch.distributions.Normal(0, 1).cdf(x).detach()),
    ],
)
def test_rules_of_single_modules(module, constant):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module.double()

    x = torch.tensor([0.3, -1.7, 2.1], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.7, 1.3, -0.4], dtype=torch.float64)
    with linear_rules(Model()):
        y = module(x.unsqueeze(0)).squeeze(0)
    torch.testing.assert_close(y, module(x))
    (found,) = torch.autograd.grad(y @ weight, [x])
    (expected,) = torch.autograd.grad(constant(x) @ weight, [x])
    torch.testing.assert_close(found, expected)
    (true,) = torch.autograd.grad(module(x) @ weight, [x])
    assert (true - found).abs().max() > 0.01
