import pytest
import small_models
import torch
from small_models import PAIRS, SMALL
from torch import nn
from torch_geometric.explain import AttentionExplainer, Explainer, GNNExplainer
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.aggr import MeanAggregation

from iagraph.graph import fully_connected
from iagraph.interpret.explainers import MODEL_CONFIG, AbsoluteAttentionExplainer, Explainable
from iagraph.interpret.recording import record_attention
from iagraph.models import (
    CascadedIAFormer,
    GatedIAFormer,
    IAFormer,
)
from iagraph.nn import DifferentialAttentionConv, EdgeConv, InteractionAttentionConv, PairAttentionConv, TopK
from iagraph.testing import random_jets

MODELS = {
    name: small_models.MODELS[name]
    for name in (
        "part",
        "iaformer",
        "plain",
        "interaction",
    )
}
LAYERS = {
    "differential": lambda: DifferentialAttentionConv(5, 6, heads=3, edge_dim=4, beta=0.7),
    "interaction": lambda: InteractionAttentionConv(5, 6, heads=2, edge_dim=4),
    "pair": lambda: PairAttentionConv(5, 6, heads=3, edge_dim=4),
    "edge conv": lambda: EdgeConv(5, [6]),
}


class Net(nn.Module):
    """A plain PyTorch Geometric model with one of our layers."""

    def __init__(self, conv, attributes=True):
        super().__init__()
        self.conv, self.attributes, self.readout, self.lin = conv, attributes, MeanAggregation(), nn.Linear(6, 2)

    def forward(self, x, edge_index, edge_attr):
        x = self.conv(x, edge_index, edge_attr) if self.attributes else self.conv(x, edge_index)
        return self.lin(self.readout(x))


def graph(nodes=7, edges=19):
    random = torch.Generator().manual_seed(3)
    edge_index = torch.randint(nodes, (2, edges), generator=random)
    return torch.randn(nodes, 5, generator=random), edge_index, torch.randn(edges, 4, generator=random)


def randomized(module, std=0.7):
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std)
    return module.eval()


def gnn_explainer(model, epochs=4, edges="object", **coefficients):
    return Explainer(model, GNNExplainer(epochs=epochs, lr=0.1, **coefficients), "model", MODEL_CONFIG, "object", edges)


def attention_explainer(model, algorithm):
    return Explainer(model, algorithm, "model", MODEL_CONFIG, edge_mask_type="object")


@pytest.mark.parametrize("name", LAYERS)
def test_gnn_explainer_takes_our_layers(name):
    net = randomized(Net(LAYERS[name](), attributes=name != "edge conv"))
    x, edge_index, edge_attr = graph()
    before = net(x, edge_index, edge_attr)
    explanation = gnn_explainer(net)(x, edge_index, edge_attr=edge_attr)
    assert explanation.edge_mask.shape == (19,)
    assert explanation.node_mask.shape == (7, 1)
    assert explanation.edge_mask.std() > 0.01
    torch.testing.assert_close(net(x, edge_index, edge_attr), before)  # nothing stays behind


@pytest.mark.parametrize("name", ["differential", "interaction", "pair"])
def test_attention_explainers_read_our_layers(name):
    net = randomized(Net(LAYERS[name]()))
    x, edge_index, edge_attr = graph()
    _, (_, alpha) = net.conv(x, edge_index, edge_attr, return_attention_weights=True)
    signed = attention_explainer(net, AttentionExplainer("mean"))(x, edge_index, edge_attr=edge_attr)
    absolute = attention_explainer(net, AbsoluteAttentionExplainer("mean"))(x, edge_index, edge_attr=edge_attr)
    torch.testing.assert_close(signed.edge_mask, alpha.mean(1))
    torch.testing.assert_close(absolute.edge_mask, alpha.abs().mean(1))
    assert signed.edge_mask.equal(absolute.edge_mask) == (name != "differential")
    assert not net.conv._message_forward_hooks


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_model(name):
    model, jets = randomized(MODELS[name]().double()), random_jets([5, 0, 1, 7], 1).double()
    explainable = Explainable(model, jets)
    torch.testing.assert_close(explainable(explainable.x, explainable.edge_index), model(jets))
    order = torch.randperm(explainable.edge_index.size(1), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(explainable(explainable.x, explainable.edge_index[:, order]), model(jets))
    # The model itself is unchanged.
    assert all(module.explain is None for module in model.modules() if isinstance(module, MessagePassing))
    assert not any(conv._forward_hooks or conv._message_forward_hooks for conv in model.convs())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_attention_of_taggers_equals_the_recording(name, reduce):
    model, jets = randomized(MODELS[name]()), random_jets([5, 1, 7], 2)
    explainable = Explainable(model, jets)
    explainer = attention_explainer(explainable, AbsoluteAttentionExplainer(reduce))
    edges = explainable.edge_index.flip(1)
    mask = explainer(explainable.x, edges).edge_mask
    layers = [layer.alpha.abs() for layer in record_attention(model, jets).layers]
    stacked = torch.stack(layers, 2).flip(0)
    expected = stacked.amax((1, 2)) if reduce == "max" else stacked.mean((1, 2))
    torch.testing.assert_close(mask, expected.detach())


@pytest.mark.parametrize("name", MODELS)
def test_masked_edges_send_no_messages(name):
    model, jets = randomized(MODELS[name]().double()), random_jets([5, 3], 3).double()
    explainable = Explainable(model, jets)
    explainer = gnn_explainer(explainable)
    x, edges = explainable.x, explainable.edge_index
    whole = explainer.get_masked_prediction(x, edges, edge_mask=torch.ones(34).double())
    torch.testing.assert_close(whole, model(jets))
    mask = torch.ones(34).double()
    mask[:25] = 0.0  # those of the first jet
    masked = explainer.get_masked_prediction(x, edges, edge_mask=mask)
    torch.testing.assert_close(masked[1], whole[1])
    with torch.no_grad():  # as if no particle of the jet carried a value
        features, _ = explainable.x.split([5, 3])
        silent = Explainable(model, jets.part(0, 1))
        for conv in silent.model.convs():
            conv.lin_value.weight.zero_()
            if conv.lin_value.bias is not None:
                conv.lin_value.bias.zero_()
        torch.testing.assert_close(masked[:1], silent(features, silent.edge_index))
    assert (masked[0] - whole[0]).abs().max() > 1e-3


def test_decisive_edge_is_found():
    """Attention is one-hot and only one particle has a value, so its edge to one other decides."""
    net = Net(InteractionAttentionConv(5, 6, heads=2))
    x = torch.zeros(4, 5)
    x[2, 0] = 1.0
    edge_index = fully_connected(torch.tensor([0, 4]))
    chosen = int(((edge_index[0] == 2) & (edge_index[1] == 1)).nonzero())
    scores = torch.full((16, 2), -8.0)
    scores[edge_index[0] == 0] = 0.0  # all attend to a particle of value zero,
    scores[edge_index[1] == 1] = -8.0
    scores[chosen] = 0.0  # but one
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.conv.lin_value.weight[:, 0] = 1.0
        net.conv.lin_out.weight.copy_(torch.eye(6))
        net.lin.weight[1] = 4.0
    torch.manual_seed(1)
    explanation = gnn_explainer(net, 60, edge_size=0.02, edge_ent=0.0)(x, edge_index, edge_attr=scores)
    others = torch.arange(16) != chosen
    assert explanation.edge_mask[chosen] > 0.8
    assert explanation.edge_mask[others].max() < 0.05


def test_gnn_explainer_takes_taggers():
    model, jets = randomized(MODELS["part"]()), random_jets([5, 3], 3)
    explainable = Explainable(model, jets)
    explanation = gnn_explainer(explainable)(explainable.x, explainable.edge_index)
    assert explanation.edge_mask.shape == (34,)
    assert explanation.node_mask.shape == (8, 1)
    assert explanation.edge_mask.std() > 0.01
    torch.testing.assert_close(explainable(explainable.x, explainable.edge_index), model(jets))


@pytest.mark.parametrize(
    "model",
    [
        GatedIAFormer(**SMALL, **PAIRS),
        CascadedIAFormer(**SMALL, **PAIRS),
        IAFormer(**SMALL, **PAIRS, pruning=TopK(k=2)),
    ],
    ids=["gated", "cascaded", "pruned"],
)
def test_models_that_drop_edges_are_refused(model):
    with pytest.raises(ValueError, match=r"drops edges.*explain a model without gate and rule"):
        Explainable(model, random_jets([3], 1))
