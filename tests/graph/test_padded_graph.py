"""Graphs in slots, compared with edge lists and dense blocks. All other slots and pairs hold garbage."""

import pytest
import torch
from graph_forms import InSlots, as_list

from iagraph.graph import DenseGraph, PaddedGraph
from iagraph.nn import DifferentialAttentionConv, EdgeBudget, InteractionAttentionConv, Threshold, TopK, TopP

SIZES = [5, 0, 1, 7, 2, 0, 3]
PTR = torch.tensor([0, *SIZES]).cumsum(0)
NODES = sum(SIZES)
LIST = as_list(PTR)
EDGES = LIST.edge_index
PAIRS = LIST.first.numel()


@pytest.fixture(params=[(7, True), (7, False), (11, True), (11, False)], ids="{0[0]} slots, compact: {0[1]}".format)
def padded(request):
    return InSlots(PTR, *request.param)


def randn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tied(*shape, seed=1):
    """Numbers of both signs with many ties."""
    return (2 * randn(*shape, seed=seed)).round()


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def is_edge(padded):
    return padded.table(torch.ones(1, EDGES.size(1)), EDGES)[0] == 1


def difference(maps):
    first, second = maps.chunk(2)
    return first - 0.3 * second


# --- its nodes, pairs and edges ---


def test_edges_join_real_nodes_and_pairs_are_unique(padded):
    graph = padded.graph
    assert (graph.num_graphs, graph.num_nodes) == (len(SIZES), len(SIZES) * padded.slots)
    assert torch.equal(graph.edges, is_edge(padded))
    assert torch.equal(graph.batch, torch.arange(len(SIZES)).repeat_interleave(padded.slots))
    numbers = padded.numbers(LIST)
    assert numbers[numbers >= 0].tolist() == list(range(PAIRS))
    in_table = len(SIZES) * padded.slots * (padded.slots + 1) // 2
    assert graph.pair_counts == [PAIRS if graph.compact else in_table] == [len(numbers)]
    pairs = torch.stack([graph.first, graph.second])
    assert pairs.unique(dim=1).size(1) == len(numbers)
    assert (pairs[0] <= pairs[1]).all()
    assert torch.equal(graph.first // padded.slots, graph.second // padded.slots)


def test_edges_have_the_value_of_their_pair_and_non_edges_the_lowest(padded):
    values = randn(3, PAIRS)
    table = padded.graph.scores([padded.pairs(values, LIST)])
    assert torch.equal(padded.edges(table, EDGES), LIST.scores([values]))
    assert (table[:, ~padded.graph.edges] == torch.finfo(torch.float64).min).all()


def test_edges_between_and_means(padded):
    assert padded.graph.edges_between().tolist() == [n * (n - 1) for n in SIZES] == LIST.edges_between().tolist()
    x = randn(NODES, 3)
    same(padded.graph.mean(padded.nodes(x)), LIST.mean(x))
    garbage = padded.nodes(x)
    garbage[padded.node_of_slot < 0] = torch.nan
    same(padded.graph.mean(garbage), DenseGraph(PTR).mean(x))


@pytest.mark.parametrize("k", [1, 4, 13])
def test_nearest(padded, k):
    points = 100 + randn(NODES, 3)
    found = padded.graph.nearest(padded.nodes(points), k)[padded.slot_of_node]
    found = torch.where(found < 0, -1, padded.node_of_slot[found])
    assert torch.equal(found, DenseGraph(PTR).nearest(points, k))


# --- attention ---


def test_products_softmax_and_sums(padded):
    heads, graph = 3, padded.graph
    query, key, value = randn(NODES, 6, seed=2), randn(NODES, 6, seed=3), randn(NODES, heads, 5, seed=4)
    of_pairs = randn(heads, PAIRS)
    for with_pairs in False, True:
        scores, tables = None, None
        if with_pairs:
            scores, tables = LIST.scores([of_pairs]), graph.scores([padded.pairs(of_pairs, LIST)])
        scores = LIST.dot(query, key, heads, scores)
        tables = graph.dot(padded.nodes(query), padded.nodes(key), heads, tables)
        same(padded.edges(tables, EDGES), scores)
        weights, maps = LIST.softmax(scores), graph.softmax(tables)
        same(padded.edges(maps, EDGES), weights)
        assert not maps.masked_select(graph.edges.any(2, keepdim=True) & ~graph.edges).any()  # padding is never read
        same(graph.aggregate(maps, padded.nodes(value))[padded.slot_of_node], LIST.aggregate(weights, value))


@pytest.mark.parametrize("products", [False, True])
@pytest.mark.parametrize("dropout", [None, lambda maps: maps * 2])
def test_attention_and_its_gradients(padded, products, dropout):
    heads, dense = 2, DenseGraph(PTR)
    tensors = [
        randn(2 * heads, PAIRS),
        randn(NODES, heads, 3, seed=2),
        randn(NODES, 12, seed=3),
        randn(NODES, 12, seed=4),
    ]
    tensors = [tensor.requires_grad_() for tensor in tensors[: 4 if products else 2]]
    number = {pair: k for k, pair in enumerate(zip(LIST.first.tolist(), LIST.second.tolist(), strict=True))}
    of_blocks = torch.tensor([number[pair] for pair in zip(dense.first.tolist(), dense.second.tolist(), strict=True)])

    def run(graph, place_pairs, place_nodes):
        of_pairs, value, *rest = tensors
        scores = graph.scores(place_pairs(of_pairs))
        if rest:
            scores = graph.dot(*map(place_nodes, rest), 2 * heads, scores)
        return graph.attend(scores, place_nodes(value), difference, dropout)

    expected, alpha = run(LIST, lambda pairs: [pairs], lambda x: x)
    found, table = run(padded.graph, lambda pairs: [padded.pairs(pairs, LIST)], padded.nodes)
    blocks, _ = run(dense, lambda pairs: pairs[:, of_blocks].split(dense.pair_counts, dim=1), lambda x: x)
    found = found[padded.slot_of_node]
    same(padded.edges(table, EDGES), alpha)
    gradients = []
    for sums in expected, found, blocks:
        same(sums, expected)
        gradients.append(torch.autograd.grad((sums * randn(*sums.shape, seed=5)).sum(), tensors))
    for one, *others in zip(*gradients, strict=True):
        for other in others:
            same(other, one)


def test_tokens(padded):
    heads, graphs = 3, len(SIZES)
    token, x = randn(graphs, 6, seed=2), randn(NODES, 6, seed=3)
    tokens, tables = LIST.with_tokens(), padded.graph.with_tokens()
    asked, asked_of_table = torch.cat([token, x]), torch.cat([token, padded.nodes(x)])
    scores, of_table = tokens.dot(token, asked, heads), tables.dot(token, asked_of_table, heads)
    value, value_of_table = (each.unflatten(1, (heads, 2)) for each in (asked, asked_of_table))
    expected, _ = tokens.attend(scores, value, lambda maps: maps)
    found, _ = tables.attend(of_table, value_of_table, lambda maps: maps)
    assert found.shape == (graphs, heads, 2)
    same(found, expected)
    blocks = DenseGraph(PTR).with_tokens()
    same(blocks.attend(blocks.dot(token, asked, heads), value, lambda maps: maps)[0], expected)


# --- which edges are worth keeping ---


@pytest.mark.parametrize("number", [0, 1, 2, 5, 99])
def test_strongest_edges_per_target_with_ties_by_order(padded, number):
    strength = tied(3, EDGES.size(1))
    found = padded.graph.strongest(padded.table(strength, EDGES), number, per="target")
    assert torch.equal(padded.edges(found, EDGES), LIST.strongest(strength, number, per="target"))


def test_strongest_edges_per_graph_with_ties_by_order(padded):
    strength, numbers = tied(3, EDGES.size(1)), torch.tensor([3, 0, 1, 20, 99, 1, 0])
    found = padded.graph.strongest(padded.table(strength, EDGES), numbers, per="graph")
    expected = LIST.strongest(strength, numbers, per="graph")
    assert torch.equal(padded.edges(found, EDGES), expected)
    assert expected.sum() == 3 * (3 + 1 + 20 + 4)


def test_sums_of_stronger_edges(padded):
    strength = tied(3, EDGES.size(1)).abs()
    before, total = padded.graph.cumulative(padded.table(strength, EDGES).abs())
    for found, expected in zip((before, total), LIST.cumulative(strength), strict=True):
        same(padded.edges(found, EDGES), expected)


def test_kept_edges_and_their_pairs(padded):
    """Some edges of each target are kept, including the self-loop, as with any rule."""
    kept = (randn(EDGES.size(1)) > 0) | (EDGES[0] == EDGES[1])
    strength, of_pairs = randn(2, EDGES.size(1), seed=2), randn(2, PAIRS, seed=3)
    some, of_list = LIST.keep(kept, strength)
    graph, table = padded.graph.keep(padded.table(kept.unsqueeze(0), EDGES)[0] == 1, padded.table(strength, EDGES))
    assert torch.equal(padded.edges(table, some.edge_index), of_list)
    assert graph.edges.sum() == some.edge_index.size(1)
    assert graph.edges_between().tolist() == some.edges_between().tolist()
    for again in False, True:
        if again:
            some, list_index = some.without_idle_pairs()
            graph, index = graph.without_idle_pairs()
            numbers = padded.numbers(LIST)[index]
            if graph.compact:
                assert torch.equal(numbers, list_index)
            else:
                assert set(list_index.tolist()) <= set(numbers.tolist())
            of_pairs, of_table = of_pairs[:, list_index], padded.pairs(of_pairs, LIST)[:, index]
        else:
            of_table = padded.pairs(of_pairs, LIST)
        tables, scores = graph.scores([of_table]), some.scores([of_pairs])
        assert torch.equal(padded.edges(tables, some.edge_index), scores)
        same(padded.edges(graph.softmax(tables), some.edge_index), some.softmax(scores))
        dropped = LIST.keep(~kept)[0].edge_index
        assert not padded.edges(graph.softmax(tables), dropped).any()


@pytest.mark.parametrize("number", [1, 4, 99])
@pytest.mark.parametrize("already", [False, True], ids=["of all", "of some"])
def test_the_strongest_pairs(padded, number, already):
    """Ties are broken by order and self-loops are kept; the kept pairs are pruned once more."""
    strength, values = tied(PAIRS), randn(2, PAIRS, seed=2)
    counts = {"list": [], "table": []}

    def budget(of):
        def few(between):
            if isinstance(between, torch.Tensor):
                counts[of].append(between.tolist())
                return between.clamp(max=number)
            return min(between, number)

        return few

    some, graph = LIST, padded.graph
    list_index, index = torch.arange(PAIRS), torch.arange(graph.first.numel())
    of_table, in_table = padded.pairs(values, LIST), padded.pairs(strength.unsqueeze(0), LIST)[0]
    for step in range(1 + already):
        chosen = strength if step == 0 else -strength
        some, kept = some.keep_strongest_pairs(chosen[list_index], budget("list"))
        list_index = list_index[kept]
        chosen = in_table if step == 0 else -in_table
        graph, kept = graph.keep_strongest_pairs(chosen[index], budget("table"))
        index = index[kept]
        number -= 2
        number = max(number, 1)
    assert counts["table"] == counts["list"]
    assert graph.edges.sum() == some.edge_index.size(1)
    assert padded.edges(graph.edges.unsqueeze(0), some.edge_index).all()
    if graph.compact:
        assert torch.equal(padded.numbers(LIST)[index], list_index)
    tables, scores = graph.scores([of_table[:, index]]), some.scores([values[:, list_index]])
    assert torch.equal(padded.edges(tables, some.edge_index), scores)
    same(padded.edges(graph.softmax(tables), some.edge_index), some.softmax(scores))


RULES = [
    Threshold(minimum=0.2),
    Threshold(minimum=0.0),
    TopK(k=2),
    TopP(p=0.7),
    TopP(p=1.0),
    EdgeBudget(fraction=0.37),
    EdgeBudget(fraction=1e-9),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("renormalize", [False, True])
def test_rules_keep_the_same_edges(padded, rule, per_head, renormalize):
    """Two layers in turn; the second sees the edges kept by the first."""
    torch.manual_seed(3)
    rule = type(rule)(*list(vars(rule).values())[-1:], per_head=per_head, renormalize=renormalize)
    layers = [make(6, 6, 3, 7, pruning=rule).double() for make in (InteractionAttentionConv, DifferentialAttentionConv)]
    x, pairs = randn(NODES, 6), 3 * randn(PAIRS, 7, seed=2)
    some, graph, in_slots = LIST, padded.graph, padded.nodes(x)
    for layer in layers:
        of_pairs = layer.feature_scores(pairs).t()
        expected = layer.attend(x, some, some.scores([of_pairs]))
        found = layer.attend(in_slots, graph, graph.scores([padded.pairs(of_pairs, LIST)]))
        same(found.x[padded.slot_of_node], expected.x)
        x, some, _ = expected
        in_slots, graph, table = found
        assert padded.edges(graph.edges.unsqueeze(0), some.edge_index).all()
        assert graph.edges.sum() == some.edge_index.size(1)
        same(padded.edges(table, some.edge_index), expected.alpha)
        assert not table.masked_select(padded.graph.edges & ~graph.edges).any()


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("sizes", [(0, 0), (), (0, 0, 1)])
def test_graphs_without_nodes(sizes, compact):
    slots = max(sizes, default=0) + 1
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    padded, edges = InSlots(ptr, slots, compact), as_list(ptr)
    graph, nodes = padded.graph, sum(sizes)
    x, values = randn(nodes, 3, 2), randn(3, edges.first.numel())
    expected, _ = edges.attend(edges.scores([values]), x, lambda maps: maps)
    found, _ = graph.attend(graph.scores([padded.pairs(values, edges)]), padded.nodes(x), lambda maps: maps)
    assert found.isfinite().all()
    same(found[padded.slot_of_node], expected)
    same(graph.mean(padded.nodes(x).flatten(1)), edges.mean(x.flatten(1)))
    assert graph.nearest(padded.nodes(x[:, 0]), 2)[padded.slot_of_node].eq(-1).all()
    assert graph.edges_between().tolist() == [0] * len(sizes)
    if not sizes and not compact:
        return  # how many pairs a graph has is known of the first
    fewer, index = graph.keep_strongest_pairs(padded.pairs(values, edges)[0], lambda between: between)
    assert fewer.edges.sum() == nodes
    assert index.numel() == (nodes if compact else len(sizes) * slots * (slots + 1) // 2)


def test_no_slots():
    graph = PaddedGraph.complete(torch.zeros(3, 0, dtype=torch.bool))
    assert graph.pair_counts == [0]
    found, _ = graph.attend(graph.scores([torch.zeros(2, 0)]), torch.zeros(0, 2, 5), lambda maps: maps)
    assert found.shape == (0, 2, 5)
    assert graph.mean(torch.zeros(0, 5)).tolist() == [[0] * 5] * 3
