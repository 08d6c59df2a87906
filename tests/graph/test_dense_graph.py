import pytest
import torch

from iagraph.graph import DenseGraph, SparseGraph, fully_connected
from iagraph.kernels import blocks

SIZES = [5, 0, 1, 7, 2, 5, 0, 3]
PTR = torch.tensor([0, *SIZES]).cumsum(0)
FEW = torch.tensor([0, 3, 3, 4, 8, 10, 13])  # for finite differences, which take a run per number


def brute_force_edges():
    return [
        (source, target)
        for begin, end in zip(PTR[:-1].tolist(), PTR[1:].tolist(), strict=True)
        for target in range(begin, end)
        for source in range(begin, end)
    ]


def lift(graph, pair_values):
    return graph.scores(pair_values.split(graph.pair_counts, dim=1))


def each(maps):
    """Every map is the weight of a head."""
    return maps


def attend(graph, scores, value, dropout=None):
    """The sums of each map, shape [nodes, maps, channels]."""
    sums, alpha = graph.attend(scores, value, each, dropout)
    assert alpha is None
    return sums


def as_matrix(graph, pair_values):
    """Values of directed edges as [channels, target, source]; NaN where there is no edge."""
    matrix = torch.full((pair_values.size(0), graph.num_nodes, graph.num_nodes), torch.nan, dtype=pair_values.dtype)
    if isinstance(graph, SparseGraph):
        source, target = graph.edge_index
        matrix[:, target, source] = lift(graph, pair_values)
        return matrix
    offset = 0
    for block, values in zip(graph.blocks, lift(graph, pair_values).tables, strict=True):
        graphs, size = block.nodes.shape
        nodes = graph.node_of_slot[offset : offset + graphs * size].view(graphs, size)
        offset += graphs * size
        for g in range(graphs):
            for t, target in enumerate(nodes[g].tolist()):
                for s, source in enumerate(nodes[g].tolist()):
                    if max(target, source) < graph.num_nodes:
                        assert matrix[:, target, source].isnan().all()  # each edge once
                        matrix[:, target, source] = values[:, g, t, s]
                    elif source == graph.num_nodes:
                        assert values[:, g, t, s].isneginf().all()
    return matrix


def test_fully_connected_edges():
    assert [tuple(edge) for edge in fully_connected(PTR).t().tolist()] == brute_force_edges()


@pytest.mark.usefixtures("padding")
@pytest.mark.parametrize(
    "make", [DenseGraph, lambda ptr: SparseGraph.scored_per_pair(fully_connected(ptr), int(ptr[-1]))]
)
class TestBothGraphs:
    def test_pairs_are_unordered_and_unique(self, make):
        graph = make(PTR)
        pairs = list(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
        assert sorted(pairs) == sorted((s, t) for s, t in brute_force_edges() if s <= t)

    def test_an_edge_has_the_value_of_its_pair(self, make):
        graph = make(PTR)
        values = torch.stack([graph.first * 100 + graph.second, graph.first + graph.second]).double()
        matrix = as_matrix(graph, values)
        expected = torch.full_like(matrix, torch.nan)
        for source, target in brute_force_edges():
            low, high = min(source, target), max(source, target)
            expected[:, target, source] = torch.tensor([low * 100 + high, low + high]).double()
        torch.testing.assert_close(matrix, expected, equal_nan=True)

    def test_gradient_of_a_pair_is_the_sum_over_its_edges(self, make):
        graph = make(PTR)
        values = torch.randn(2, graph.first.numel(), dtype=torch.float64, requires_grad=True)

        def real_edges(pair_values):
            lifted = lift(graph, pair_values)
            if isinstance(graph, SparseGraph):
                return lifted
            real = [~block.padding for block in graph.blocks]
            masks = [r.unsqueeze(1) & r.unsqueeze(2) for r in real]
            return torch.cat([table[:, mask] for table, mask in zip(lifted.tables, masks, strict=True)], dim=1)

        assert torch.autograd.gradcheck(real_edges, values)

    def test_no_nodes(self, make):
        graph = make(torch.tensor([0, 0, 0]))
        assert graph.first.numel() == graph.num_nodes == 0


def test_padding_fixture_takes_effect(padding):
    blocks = DenseGraph(PTR).blocks
    assert len(blocks) == min(padding, 6)
    assert any(block.padding.any() for block in blocks) == (padding < 6)


@pytest.mark.parametrize("edges_in_cache", [1, 60, 10**6])
def test_weighted_sums_over_dense_blocks(padding, edges_in_cache, monkeypatch):
    monkeypatch.setattr(blocks, "EDGES_IN_CACHE", edges_in_cache)
    torch.manual_seed(2)

    def inputs(graph, maps, channels):
        pairs, nodes = graph.first.numel(), graph.num_nodes
        shapes = (maps, pairs), (nodes, maps, channels)
        return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]

    graph, few = DenseGraph(PTR), DenseGraph(FEW)
    pair_values, value = inputs(graph, 5, 2)
    matrix = as_matrix(graph, pair_values.detach()).nan_to_num(-torch.inf).softmax(-1)
    expected = torch.einsum("mts,smc->tmc", matrix, value.detach())
    for dropout in None, each:  # by pairs, by tables
        torch.testing.assert_close(attend(graph, lift(graph, pair_values), value, dropout), expected)
        sums = lambda pair_values, value: attend(few, lift(few, pair_values), value, dropout)  # noqa: B023, E731
        assert torch.autograd.gradcheck(sums, inputs(few, 3, 2))


@pytest.mark.parametrize("offset", [0.0, -60.0, -200.0, torch.nan])
def test_weighted_sums_with_very_different_scores_per_graph(padding, offset):
    torch.manual_seed(5)
    graph = DenseGraph(torch.tensor([0, 6, 11, 16]))
    pair_values = torch.randn(3, graph.first.numel())
    pair_values[:, graph.first < 6] += offset  # of the first graph; near the smallest weights of float32, or below
    pair_values[:, graph.first == 7] -= 80.0
    value = torch.randn(16, 3, 2)
    results = []
    for dtype in torch.float32, torch.float64:
        inputs = pair_values.to(dtype).requires_grad_(), value.to(dtype).requires_grad_()
        sums = attend(graph, lift(graph, inputs[0]), inputs[1])
        results.append([sums, *torch.autograd.grad(sums.square().sum(), inputs)])
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single, double.float(), rtol=1e-5, atol=1e-5, equal_nan=True)
    assert bool(results[0][0][6:].isfinite().all())


def test_many_graphs_share_few_blocks():
    sizes = torch.randint(15, 90, (64,), generator=torch.Generator().manual_seed(3))
    graph = DenseGraph(torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)]))
    assert len(graph.blocks) == 16
    assert graph.node_of_slot.numel() < 1.15 * sizes.sum()


def test_products_of_queries_and_keys(padding):
    torch.manual_seed(4)
    graph, heads = DenseGraph(PTR), 3
    query = torch.randn(graph.num_nodes, heads * 2, dtype=torch.float64, requires_grad=True)
    key = torch.randn(graph.num_nodes, heads * 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(heads, sum(graph.pair_counts), dtype=torch.float64, requires_grad=True)

    every = torch.einsum("thc,shc->hts", query.view(-1, heads, 2), key.view(-1, heads, 2))
    plain, biased = graph.dot(query, key, heads), graph.dot(query, key, heads, lift(graph, bias))
    for block, product, other, scores in zip(graph.blocks, plain, biased, lift(graph, bias).tables, strict=True):
        for g, nodes in enumerate(block.nodes):
            real = nodes >= 0
            expected = every[:, nodes[real]][:, :, nodes[real]]
            torch.testing.assert_close(product[:, g][:, real][:, :, real], expected)
            expected = expected + scores[:, g][:, real][:, :, real]
            torch.testing.assert_close(other[:, g][:, real][:, :, real], expected)
            assert product[:, g][:, :, ~real].isneginf().all()
            assert other[:, g][:, :, ~real].isneginf().all()

    few = DenseGraph(FEW)
    query, key = (torch.randn(few.num_nodes, heads * 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn(heads, sum(few.pair_counts), dtype=torch.float64, requires_grad=True)
    real_only = lambda q, k: torch.cat([p[p.isfinite()] for p in few.dot(q, k, heads)])  # noqa: E731
    assert torch.autograd.gradcheck(real_only, (query, key))

    def weights(q, k, b):  # rows of padded targets are never looked at
        maps = [product.softmax(-1) for product in few.dot(q, k, heads, lift(few, b))]
        return torch.cat([m[:, ~block.padding].flatten() for m, block in zip(maps, few.blocks, strict=True)])

    assert torch.autograd.gradcheck(weights, (query, key, bias))


class TestNearest:
    def test_brute_force(self, padding):
        torch.manual_seed(5)
        graph = DenseGraph(PTR)
        points = 100 + torch.randn(graph.num_nodes, 3, dtype=torch.float64)
        for k in (1, 4, 9):
            got = graph.nearest(points, k).tolist()
            for begin, end in zip(PTR[:-1].tolist(), PTR[1:].tolist(), strict=True):
                for node in range(begin, end):
                    others = [n for n in range(begin, end) if n != node]
                    others.sort(key=lambda n: (points[n] - points[node]).square().sum().item())
                    assert got[node] == (others + [-1] * k)[:k]

    def test_coincident_points_are_neighbours_but_not_of_themselves(self):
        graph = DenseGraph(torch.tensor([0, 4]))
        got = graph.nearest(torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [3.0, 0.1]]), 1)
        assert got.tolist() == [[1], [0], [3], [2]]

    def test_float32_separates_close_points_far_from_the_origin(self):
        graph = DenseGraph(torch.tensor([0, 3]))
        points = torch.tensor([[1000.0, 0.0], [1000.5, 0.0], [1000.9, 0.0]])
        assert graph.nearest(points, 2).tolist() == [[1, 2], [2, 0], [1, 0]]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert graph.nearest(points, 2).tolist() == [[1, 2], [2, 0], [1, 0]]

    def test_no_nodes(self):
        assert DenseGraph(torch.tensor([0, 0])).nearest(torch.zeros(0, 2), 3).shape == (0, 3)


def test_pairs_are_created_on_demand():
    graph = DenseGraph(PTR)
    graph.nearest(torch.randn(graph.num_nodes, 2), 2)
    assert not any("pairs" in vars(block) for block in graph.blocks)


def test_gradients_in_16_bits_equal_those_in_32_bits():
    torch.manual_seed(6)
    graph, maps = DenseGraph(PTR), 3
    # Scores and values that sixteen bits hold exactly.
    pair_values = torch.randn(maps, graph.first.numel()).bfloat16().float().requires_grad_()
    value = torch.randn(graph.num_nodes, maps, 2).bfloat16().float().requires_grad_()
    exact = attend(graph, lift(graph, pair_values), value)
    with torch.autocast("cpu", torch.bfloat16):
        got = attend(graph, lift(graph, pair_values.bfloat16()), value.bfloat16())
    torch.testing.assert_close(got.float(), exact, rtol=0.02, atol=0.02)
    grad = torch.randn_like(exact)
    expected = torch.autograd.grad(exact, (pair_values, value), grad)
    for ours, precise in zip(torch.autograd.grad(got, (pair_values, value), grad.bfloat16()), expected, strict=True):
        assert (ours - precise).norm() < 0.01 * precise.norm()
