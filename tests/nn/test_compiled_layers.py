"""Layers under ``torch.compile(fullgraph=True)``: one graph, whatever tensors hold, with the numbers of eager mode."""

import copy

import pytest
import torch
from torch_geometric import EdgeIndex

from iagraph.edge_list import EdgeListGraph
from iagraph.nn import (
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    EdgeBudget,
    EdgeConv,
    InteractionAttentionConv,
    PairAttentionConv,
    Threshold,
    TopK,
    TopMass,
)

LAYERS = {
    "differential": (lambda: DifferentialAttentionConv(5, 6, 3, 7), 7),
    "pair": (lambda: PairAttentionConv(5, 6, 3, 7), 7),
    "interaction": (lambda: InteractionAttentionConv(5, 6, 3, 7, bias=True), 7),
    "plain": (lambda: InteractionAttentionConv(5, 6, 3), 0),
    "differential transformer": (lambda: DifferentialTransformerConv(5, 6, 3), 0),
    "differential of both": (lambda: DifferentialTransformerConv(5, 6, 3, 7), 7),
    "edge": (lambda: EdgeConv(5, (7, 4)), 0),
}
RULES = [
    Threshold(minimum=0.3),
    TopK(k=2),
    TopK(k=1, per_head=True, renormalize=True),
    TopMass(share=0.7),
    EdgeBudget(fraction=0.4),
]

every_layer = pytest.mark.parametrize(("make", "edge_dim"), LAYERS.values(), ids=LAYERS)


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(layer, backend="eager", **settings):
    """Traced as a whole; the backend "eager" then runs what was traced as it is, without writing code of its own."""
    return torch.compile(layer, fullgraph=True, backend=backend, **settings)


def inputs(edge_dim, nodes=11, edges=29, seed=2, ordered=False):
    """Vectors of nodes, of which the last two have no edges, edges in any order or by target, and their features."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(nodes, 5, generator=random, dtype=torch.float64, requires_grad=True)
    edge_index = torch.randint(nodes - 2, (2, edges), generator=random)
    if ordered:
        edge_index = edge_index[:, edge_index[1].argsort(stable=True)]
    if not edge_dim:
        return x, edge_index
    return x, edge_index, torch.randn(edges, edge_dim, generator=random, dtype=torch.float64)


def gradients(layer, arguments):
    """The result and the gradients of vectors and parameters."""
    layer.zero_grad()
    arguments[0].grad = None
    out = layer(*arguments)
    (out * torch.linspace(0.3, 1.7, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
    return [out.detach(), arguments[0].grad, *(p.grad for p in layer.parameters())]


def assert_same(layer, compiled_layer, edge_dim, sizes):
    arguments = inputs(edge_dim, *sizes)
    expected, found = gradients(layer, arguments), gradients(compiled_layer, arguments)
    assert len(expected) == len(found)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other, one)


@every_layer
def test_compiled_equals_eager_and_graphs_of_other_sizes_need_no_new_code(make, edge_dim):
    torch.manual_seed(1)
    layer = make().double()
    compiled_layer = compiled(copy.deepcopy(layer), dynamic=True)
    assert_same(layer, compiled_layer, edge_dim, (11, 29))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in ((13, 31), (101, 503), (7, 3)):
            assert_same(layer, compiled_layer, edge_dim, sizes)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing inductor
@every_layer
def test_inductor_equals_eager(make, edge_dim):
    torch.manual_seed(1)
    layer = make().double()
    compiled_layer = compiled(copy.deepcopy(layer), "inductor")
    for sizes in ((11, 29), (17, 41)):  # the first code is for fixed sizes, the second for any
        assert_same(layer, compiled_layer, edge_dim, sizes)


@pytest.mark.parametrize("name", ["differential", "interaction"])
def test_weights_come_out_of_compiled_layers(name):
    make, edge_dim = LAYERS[name]
    layer = make().double()
    arguments = inputs(edge_dim)
    expected, (_, weights) = layer(*arguments, return_attention_weights=True)
    out, (edges, alpha) = compiled(layer)(*arguments, return_attention_weights=True)
    torch.testing.assert_close((out, alpha), (expected, weights))
    assert torch.equal(edges, arguments[1])


@pytest.mark.parametrize("name", ["differential", "differential of both", "edge"])
def test_edge_index_and_bipartite_graphs(name):
    make, edge_dim = LAYERS[name]
    layer = make().double().eval()
    x, edge_index, *edge_attr = inputs(edge_dim, ordered=True)
    x = x.detach()
    expected = layer(x, edge_index, *edge_attr)
    edges = EdgeIndex(edge_index, sparse_size=(11, 11), sort_order="col")
    compiled_layer = compiled(layer)
    torch.testing.assert_close(compiled_layer(x, edges, *edge_attr), expected)
    torch.testing.assert_close(compiled_layer((x, x[:9]), edge_index, *edge_attr), expected[:9])


def assert_prunes_alike(rule, backend="eager"):
    torch.manual_seed(1)
    layer = DifferentialAttentionConv(5, 6, 3, 7, pruning=rule).double()
    compiled_layer = compiled(layer, backend, dynamic=True)
    for seed in (3, 4):  # of which different numbers of edges are left
        arguments = inputs(7, seed=seed)
        expected, (left, weights, ids) = layer(*arguments, return_attention_weights=True)
        assert 0 < ids.numel() < 29
        out, (edges, alpha, found) = compiled_layer(*arguments, return_attention_weights=True)
        torch.testing.assert_close((out, alpha), (expected, weights))
        assert torch.equal(edges, left)
        assert torch.equal(found, ids)
    return layer, compiled_layer


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_whose_result_has_a_size_that_depends_on_values(rule):
    assert_prunes_alike(rule)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of importing inductor
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_rules_by_inductor_with_gradients(rule):
    layer, compiled_layer = assert_prunes_alike(rule, "inductor")
    arguments = inputs(7, seed=5)
    for one, other in zip(gradients(layer, arguments), gradients(compiled_layer, arguments), strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("make", [InteractionAttentionConv, DifferentialTransformerConv])
def test_dropout_acts_in_compiled_layers(make):
    torch.manual_seed(4)
    layer = make(5, 6, 3, dropout=0.25).double()
    arguments = inputs(0, nodes=62, edges=2000)
    _, (_, full) = layer.eval()(*arguments, return_attention_weights=True)
    _, (_, alpha) = compiled(layer.train())(*arguments, return_attention_weights=True)
    untouched = torch.isclose(alpha, full / 0.75)
    share = {InteractionAttentionConv: 0.75, DifferentialTransformerConv: 0.75**2}[make]  # of both maps of a head
    assert untouched.double().mean() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("name", ["differential", "interaction", "differential of both"])
def test_layers_of_models_compile_on_lists_of_edges(name):
    """A list of edges knows where those of each target begin; compiled code does not make use of it."""
    make, edge_dim = LAYERS[name]
    torch.manual_seed(1)
    layer = make().double()
    x, edge_index, edge_attr = inputs(edge_dim, ordered=True)
    graph = EdgeListGraph.from_edges(edge_index, 11)
    assert graph.ptr is not None
    scores = layer.score(edge_attr).detach()
    expected = layer.attend(x, graph, scores).x
    found = torch.compile(lambda x: layer.attend(x, graph, scores).x, fullgraph=True, backend="eager")(x)
    torch.testing.assert_close(found, expected)
