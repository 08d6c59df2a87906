"""Properties of every attention layer."""

import pytest
import torch
from graph_forms import InSlots

from iagraph.graph import DenseGraph, PaddedGraph, SparseGraph, fully_connected
from iagraph.nn import (
    AttentionConv,
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    InteractionAttentionConv,
    PairAttentionConv,
    TopK,
)

PTR = torch.tensor([0, 5, 5, 6, 13])
EDGES = fully_connected(PTR)
LAYERS = {
    "differential": lambda: DifferentialAttentionConv(5, 6, 3, 7),
    "pair": lambda: PairAttentionConv(5, 6, 3, 7),
    "interaction": lambda: InteractionAttentionConv(5, 6, 3, 7),
    "interaction with biases given": lambda: InteractionAttentionConv(5, 6, 3, bias=True),
    "plain": lambda: InteractionAttentionConv(5, 6, 3),
    "differential transformer": lambda: DifferentialTransformerConv(5, 6, 3, beta_per_head=True),
    "differential of both": lambda: DifferentialTransformerConv(5, 6, 3, 7),
    "differential with biases given": lambda: DifferentialTransformerConv(5, 6, 3),
}
WIDTHS = {
    "interaction with biases given": 3,
    "plain": 0,
    "differential transformer": 0,
    "differential with biases given": 6,
}
"""Sizes of edge features other than 7."""


@pytest.fixture(params=LAYERS)
def case(request):
    """A layer in float64 and its edge features: one vector per unordered pair, numbered as in an edge list."""
    torch.manual_seed(1)
    conv = LAYERS[request.param]().double()
    pairs = SparseGraph.scored_per_pair(EDGES, 13).first.numel()
    width = WIDTHS.get(request.param, 7)
    return conv, torch.randn(pairs, width).double() if width else None


def pair_numbers(edges, dense):
    """The pair of each directed edge, and of each pair of the dense graph, as the edge list numbers them."""
    number = {pair: k for k, pair in enumerate(zip(edges.first.tolist(), edges.second.tolist(), strict=True))}
    low, high = EDGES.min(0).values.tolist(), EDGES.max(0).values.tolist()
    of_edge = [number[pair] for pair in zip(low, high, strict=True)]
    return of_edge, [number[pair] for pair in zip(dense.first.tolist(), dense.second.tolist(), strict=True)]


def test_all_graph_forms_and_forward_agree(case, backend, padding):
    conv, pair_attr = case
    x = torch.randn(13, 5).double()
    edges, dense = SparseGraph.scored_per_pair(EDGES, 13), DenseGraph(PTR)
    of_edge, of_dense = pair_numbers(edges, dense)
    expected = conv(x, EDGES, None if pair_attr is None else pair_attr[of_edge])
    scores = [None, None]
    if pair_attr is not None:
        pair_scores = conv.feature_scores(pair_attr).t()
        of_blocks = pair_scores[:, of_dense].split(dense.pair_counts, dim=1)
        scores = [edges.scores([pair_scores]), dense.scores(of_blocks)]
    torch.testing.assert_close(conv.attend(x, edges, scores[0]).x, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(conv.attend(x, dense, scores[1]).x, expected, rtol=0, atol=1e-13)
    alpha = conv.attend(x, edges, scores[0]).alpha
    for slots, compact in ((7, True), (9, False)):
        padded = InSlots(PTR, slots, compact)
        tables = None if pair_attr is None else padded.graph.scores([padded.pairs(pair_scores, edges)])
        output = conv.attend(padded.nodes(x), padded.graph, tables)
        torch.testing.assert_close(output.x[padded.slot_of_node], expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(padded.edges(output.alpha, EDGES), alpha, rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(11,), (2, 5, 3)])
def test_weights_of_heads_are_linear_in_the_maps(case, shape):
    conv, _ = case
    one, other = torch.randn(2, conv.maps, *shape).double()
    expected = 0.7 * conv.weights(one) - 1.3 * conv.weights(other)
    assert expected.shape == (3, *shape)
    torch.testing.assert_close(conv.weights(0.7 * one - 1.3 * other), expected, rtol=0, atol=1e-14)
    assert not conv.weights(torch.zeros_like(one)).any()


def test_message_hooks_see_attention(case):
    conv, pair_attr = case
    x, edges = torch.randn(13, 5).double(), SparseGraph.scored_per_pair(EDGES, 13)
    scores = None if pair_attr is None else edges.scores([conv.feature_scores(pair_attr).t()])
    seen = []
    expected = conv.attend(x, edges, scores)
    hook = conv.register_message_forward_hook(lambda module, inputs, message: seen.append(inputs[0]["alpha"]))
    found = conv.attend(x, edges, scores)
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=1e-13)
    (alpha,) = seen
    torch.testing.assert_close(alpha, expected.alpha.t(), rtol=0, atol=0)
    hook.remove()
    assert torch.equal(conv.attend(x, edges, scores).x, expected.x)
    assert len(seen) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_message_hooks_in_16_bits(dtype):
    conv = DifferentialAttentionConv(5, 6, heads=3, edge_dim=4).to(dtype)
    given = torch.randn(13, 5, dtype=dtype), EDGES, torch.randn(EDGES.size(1), 4, dtype=dtype)
    expected = conv(*given)
    conv.register_message_forward_hook(lambda module, inputs, message: None)
    torch.testing.assert_close(conv(*given), expected, rtol=0.02, atol=0.02)


def test_explainers_and_rules_exclude_each_other():
    conv = DifferentialAttentionConv(5, 6, heads=3, edge_dim=4, pruning=TopK(1))
    conv.explain = True
    with pytest.raises(ValueError, match="explainers mask all edges, but this DifferentialAttentionConv drops some"):
        conv(torch.randn(13, 5), EDGES, torch.randn(EDGES.size(1), 4))


def test_hooks_need_a_list_of_edges():
    conv = PairAttentionConv(5, 6, heads=3, edge_dim=4)
    conv.register_message_forward_hook(lambda module, inputs, message: None)
    with pytest.raises(ValueError, match="messages along a list of edges: jets in slots have none"):
        conv.attend(torch.randn(6, 5), PaddedGraph.complete(torch.ones(2, 3).bool()), torch.randn(2, 3, 3, 3))


def test_layers_of_ones_own_need_only_scores():
    class Nearest(AttentionConv):
        def scores(self, source, target, graph, scores):
            from_target, to_target = graph.edge_index
            return -(source[from_target] - target[to_target]).norm(dim=1).expand(self.maps, -1)

    conv, x = Nearest(5, 6, heads=3), torch.randn(13, 5)
    assert conv(x, EDGES).shape == (13, 6)
    assert repr(conv) == "Nearest(5, 6, heads=3, edge_dim=None)"


def test_forward_does_not_depend_on_the_order_of_edges(case):
    conv, pair_attr = case
    x, order = torch.randn(13, 5).double(), torch.randperm(EDGES.size(1))
    edge_attr = None if pair_attr is None else torch.randn(EDGES.size(1), pair_attr.size(1)).double()
    out, (_, alpha) = conv(x, EDGES, edge_attr, return_attention_weights=True)
    shuffled = None if edge_attr is None else edge_attr[order]
    got, (edge_index, weights) = conv(x, EDGES[:, order], shuffled, return_attention_weights=True)
    torch.testing.assert_close(got, out)
    torch.testing.assert_close(weights, alpha[order])
    assert torch.equal(edge_index, EDGES[:, order])


def test_every_parameter_has_a_gradient(case):
    conv, pair_attr = case
    edge_attr = None if pair_attr is None else torch.randn(EDGES.size(1), pair_attr.size(1)).double()
    out = conv(torch.randn(13, 5).double(), EDGES, edge_attr)
    (out * torch.linspace(0.3, 1.7, out.numel()).double().view_as(out)).sum().backward()
    for name, parameter in conv.named_parameters():
        # A constant added to all keys adds the same to all scores of a target, which the softmax ignores.
        if name == "lin_key.bias":
            assert parameter.grad.abs().max() < 1e-12
        else:
            assert parameter.grad.abs().max() > 1e-4, name


def test_reset_draws_new_weights(case):
    conv, _ = case
    before = {name: parameter.clone() for name, parameter in conv.named_parameters()}
    conv.reset_parameters()
    same = [name for name, parameter in conv.named_parameters() if torch.allclose(parameter, before[name])]
    assert same == [name for name in before if name in ("theta", "norm.weight")]  # they start at the same again


@pytest.mark.parametrize("make", [DifferentialAttentionConv, PairAttentionConv])
def test_pair_layers_require_edge_features(make):
    conv, x = make(5, 6, 3, 7), torch.randn(13, 5)
    with pytest.raises(ValueError, match="weighs edges by their features: give edge_attr"):
        conv(x, EDGES)
    for graph in (DenseGraph(PTR), SparseGraph.scored_per_pair(EDGES, 13)):
        with pytest.raises(ValueError, match="weighs edges by their features: give"):
            conv.attend(x, graph)


@pytest.mark.parametrize("make", LAYERS.values())
def test_heads_must_divide_out_channels(make):
    conv = make()
    with pytest.raises(ValueError, match=r"out_channels \(7\) must be a multiple of (twice )?heads \(3\)"):
        type(conv)(5, 7, 3, 7)


@pytest.mark.parametrize(
    ("x", "edge_attr", "message"),
    [
        ((5, 4), (7, 2), r"x has shape \[5, 4\]: this layer takes \[nodes, 3\]"),
        ((5, 3), (6, 2), r"edge_attr has 6 rows: give one for each of 7 edges"),
        ((5, 3), (7, 11), r"edge_attr has shape \[7, 11\]: this layer takes \[edges, 2\]"),
        ((5, 3), (7,), r"edge_attr has shape \[7\]: this layer takes \[edges, 2\]"),
    ],
)
def test_invalid_sizes_are_named(x, edge_attr, message):
    conv = DifferentialAttentionConv(3, 8, heads=2, edge_dim=2)
    with pytest.raises(ValueError, match=message):
        conv(torch.randn(x), torch.randint(5, (2, 7)), torch.randn(edge_attr))
