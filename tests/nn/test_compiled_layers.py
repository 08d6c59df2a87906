"""Layers under ``torch.compile(fullgraph=True)``: one graph, whatever tensors hold, with the numbers of eager mode."""

import copy

import pytest
import torch
from layer_cases import CASES, every_layer
from torch_geometric import EdgeIndex

from iagraph.graph import SparseGraph
from iagraph.nn import (
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    EdgeBudget,
    InteractionAttentionConv,
    Threshold,
    TopK,
    TopP,
)

RULES = [
    Threshold(minimum=0.3),
    TopK(k=2),
    TopK(k=1, per_head=True, renormalize=True),
    TopP(p=0.7),
    EdgeBudget(fraction=0.4),
]


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(layer, backend="eager", **settings):
    """Compile as one graph; the backend "eager" runs the traced graph without generating code."""
    return torch.compile(layer, fullgraph=True, backend=backend, **settings)


def inputs(case, nodes=17, edges=29, seed=2, ordered=False):
    """Vectors of nodes, of which the last two have no edges, edges in any order or by target, and their features.

    Their numbers differ from all sizes of layers: what is traced takes sizes that are equal for one and the same.
    """
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 5, generator=random, dtype=torch.float64, requires_grad=True)
    edge_index = torch.randint(nodes - 2, (2, edges), generator=random)
    if ordered:
        edge_index = edge_index[:, edge_index[1].argsort(stable=True)]
    if not case.edge_dim:
        return x, edge_index
    return x, edge_index, torch.randn(edges, case.edge_dim, generator=random, dtype=torch.float64)


def gradients(layer, arguments):
    """The result and the gradients of vectors and parameters."""
    layer.zero_grad()
    arguments[0].grad = None
    out = layer(*arguments)
    (out * torch.linspace(0.3, 1.7, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), arguments[0].grad, *(p.grad for p in layer.parameters())]


def assert_same(layer, compiled_layer, case, sizes):
    arguments = inputs(case, *sizes)
    expected, found = gradients(layer, arguments), gradients(compiled_layer, arguments)
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one)


@every_layer
def test_compiled_equals_eager_without_recompilation_for_other_sizes(case):
    torch.manual_seed(1)
    layer = case.make().double()
    compiled_layer = compiled(copy.deepcopy(layer), dynamic=True)
    assert_same(layer, compiled_layer, case, (17, 29))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in ((19, 31), (101, 503), (7, 3)):
            assert_same(layer, compiled_layer, case, sizes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing inductor
@every_layer
def test_inductor_equals_eager(case):
    torch.manual_seed(1)
    layer = case.make().double()
    compiled_layer = compiled(copy.deepcopy(layer), "inductor")
    for sizes in ((17, 29), (19, 41)):  # the first code is for fixed sizes, the second for any
        assert_same(layer, compiled_layer, case, sizes)


@pytest.mark.parametrize("name", ["differential", "interaction"])
def test_compiled_layers_return_attention_weights(name):
    case = CASES[name]
    layer = case.make().double()
    arguments = inputs(case)
    expected, (_, weights) = layer(*arguments, return_attention_weights=True)
    out, (edges, alpha) = compiled(layer)(*arguments, return_attention_weights=True)
    torch.testing.assert_close((out, alpha), (expected, weights))
    assert torch.equal(edges, arguments[1])


@pytest.mark.parametrize("name", ["differential", "differential of both", "edge"])
def test_edge_index_and_bipartite_graphs(name):
    case = CASES[name]
    layer = case.make().double().eval()
    x, edge_index, *edge_attr = inputs(case, ordered=True)
    x = x.detach()
    expected = layer(x, edge_index, *edge_attr)
    edges = EdgeIndex(edge_index, sparse_size=(17, 17), sort_order="col")
    compiled_layer = compiled(layer)
    torch.testing.assert_close(compiled_layer(x, edges, *edge_attr), expected)
    torch.testing.assert_close(compiled_layer((x, x[:15]), edge_index, *edge_attr), expected[:15])


def assert_prunes_alike(rule, backend="eager"):
    torch.manual_seed(1)
    layer = DifferentialAttentionConv(5, 6, 3, 11, pruning=rule).double()
    compiled_layer = compiled(layer, backend, dynamic=True)
    for seed in (3, 4):  # of which different numbers of edges are left
        arguments = inputs(CASES["differential"], seed=seed)
        expected, (left, weights, ids) = layer(*arguments, return_attention_weights=True)
        assert 0 < ids.numel() < 29
        out, (edges, alpha, found) = compiled_layer(*arguments, return_attention_weights=True)
        torch.testing.assert_close((out, alpha), (expected, weights))
        assert torch.equal(edges, left)
        assert torch.equal(found, ids)
    return layer, compiled_layer


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_with_data_dependent_sizes(rule):
    assert_prunes_alike(rule)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing inductor
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_with_inductor_and_gradients(rule):
    layer, compiled_layer = assert_prunes_alike(rule, "inductor")
    arguments = inputs(CASES["differential"], seed=5)
    for one, other in zip(gradients(layer, arguments), gradients(compiled_layer, arguments), strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("make", [InteractionAttentionConv, DifferentialTransformerConv])
def test_dropout_in_compiled_layers(make):
    torch.manual_seed(4)
    layer = make(5, 6, 3, dropout=0.25).double()
    arguments = inputs(CASES["plain"], nodes=62, edges=2000)
    _, (_, full) = layer.eval()(*arguments, return_attention_weights=True)
    _, (_, alpha) = compiled(layer.train())(*arguments, return_attention_weights=True)
    untouched = torch.isclose(alpha, full / 0.75)
    share = {InteractionAttentionConv: 0.75, DifferentialTransformerConv: 0.75**2}[make]  # of both maps of a head
    assert untouched.double().mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", ["differential", "interaction", "differential of both"])
def test_layers_of_models_compile_on_lists_of_edges(name):
    """An edge list knows where the edges of each target begin; compiled code does not use this."""
    case = CASES[name]
    torch.manual_seed(1)
    layer = case.make().double()
    x, edge_index, _ = inputs(case, ordered=True)
    graph = SparseGraph.scored_per_pair(edge_index, 17)
    assert graph.ptr is not None
    pairs = torch.randn(graph.first.numel(), 11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scores = graph.scores([layer.feature_scores(pairs).detach().t()])
    expected = layer.attend(x, graph, scores).x
    found = torch.compile(lambda x: layer.attend(x, graph, scores).x, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(found, expected)
