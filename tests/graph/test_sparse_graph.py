import torch
from as_on_a_gpu import AsOnAGPU

from iagraph.graph import SparseGraph, fully_connected, unordered_pairs
from iagraph.graph.sparse import fully_connected_ids

PTR = torch.tensor([0, 3, 3, 4, 9])
BATCH = torch.tensor([0, 0, 0, 2, 3, 3, 3, 3, 3])


def test_unordered_pairs():
    pairs = [(i, j) for i in range(9) for j in range(i, 9) if BATCH[i] == BATCH[j]]
    assert list(zip(*(nodes.tolist() for nodes in unordered_pairs(PTR)), strict=True)) == pairs


def test_edges_of_all_pairs_form_the_complete_graph():
    graph = SparseGraph.from_pairs(*unordered_pairs(PTR), BATCH, 4)
    assert torch.equal(graph.edge_index, fully_connected(PTR))
    low, high = graph.edge_index.min(0).values, graph.edge_index.max(0).values
    assert torch.equal(graph.first[graph.pair_of_edge], low)
    assert torch.equal(graph.second[graph.pair_of_edge], high)


def test_positions_among_all_edges():
    every = fully_connected(PTR)
    some = torch.tensor([25, 3, 0, 11, 8, 9])
    assert torch.equal(fully_connected_ids(every[:, some], PTR, BATCH), some)


class TestSparseGraph:
    def test_any_edges_in_any_order(self):
        edge_index = torch.tensor([[4, 0, 2, 0, 4, 1], [0, 4, 2, 1, 3, 0]])
        before = edge_index.clone()
        graph = SparseGraph.scored_per_pair(edge_index, 6)
        pairs = list(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
        assert pairs == [(0, 1), (0, 4), (2, 2), (3, 4)]
        assert graph.scores([torch.tensor([[10.0, 11.0, 12.0, 13.0]])]).tolist() == [[11, 11, 12, 10, 13, 10]]
        assert graph.ptr is None
        assert torch.equal(edge_index, before)

    def test_sorted_edges_are_recognised(self):
        graph = SparseGraph.scored_per_pair(torch.tensor([[1, 2, 0, 3], [0, 0, 2, 2]]), 5)
        assert graph.ptr.tolist() == [0, 2, 2, 4, 4, 4]

    def test_no_edges(self):
        graph = SparseGraph.scored_per_pair(torch.zeros(2, 0, dtype=torch.long), 3)
        assert graph.scores([torch.zeros(5, 0)]).shape == (5, 0)
        assert graph.ptr.tolist() == [0, 0, 0, 0]

    def test_kept_edges_and_their_pairs(self):
        edge_index = torch.tensor([[4, 0, 2, 0, 4, 1], [0, 4, 2, 1, 3, 0]])
        kept, strength = torch.arange(6) % 2 == 1, torch.arange(12.0).view(2, 6)
        graph, strength = SparseGraph.scored_per_pair(edge_index, 6).keep(kept, strength)
        assert strength.tolist() == [[1, 3, 5], [7, 9, 11]]
        assert graph.edge_index.tolist() == [[0, 0, 1], [4, 1, 0]]
        assert graph.edge_ids.tolist() == [1, 3, 5]
        values = torch.tensor([[10.0, 11.0, 12.0, 13.0]])
        assert graph.scores([values]).tolist() == [[11, 10, 10]]  # pairs are as they were
        graph, pairs = graph.without_idle_pairs()
        assert pairs.tolist() == [0, 1]
        assert list(zip(graph.first.tolist(), graph.second.tolist(), strict=True)) == [(0, 1), (0, 4)]
        assert graph.scores([values[:, pairs]]).tolist() == [[11, 10, 10]]

    def test_kept_pairs_and_their_edges(self):
        edge_index = torch.tensor([[4, 0, 2, 0, 4, 1], [0, 4, 2, 1, 3, 0]])  # pairs 0-1, 0-4, 2-2, 3-4
        strength, counts = torch.tensor([0.1, 0.3, -5.0, 0.2]), []

        def two(between):
            counts.append(between.tolist())
            return torch.full_like(between, 2)

        graph, pairs = SparseGraph.scored_per_pair(edge_index, 6).keep_strongest_pairs(strength, two)
        assert counts == [[3]]
        assert pairs.tolist() == [1, 2, 3]  # self-pairs are kept and do not count
        assert graph.edge_index.tolist() == [[4, 0, 2, 4], [0, 4, 2, 3]]
        assert graph.edge_ids.tolist() == [0, 1, 2, 4]
        assert (graph.first.tolist(), graph.second.tolist()) == ([0, 2, 3], [4, 2, 4])
        assert graph.pair_of_edge.tolist() == [0, 0, 1, 2]

    def test_kept_pairs_before_edges_are_listed(self):
        listed, blank = (SparseGraph.from_pairs(*unordered_pairs(PTR), BATCH, 4) for _ in range(2))
        assert listed.edge_index.size(1) == 35
        strength = torch.randn(listed.first.numel(), generator=torch.Generator().manual_seed(1))
        for number, left in ((1, 2 + 9), (3, 6 + 9), (99, 22)):
            (some, pairs), (others, same) = (
                graph.keep_strongest_pairs(strength, lambda between, number=number: between.clamp(max=number))
                for graph in (listed, blank)
            )
            assert pairs.numel() == left
            assert torch.equal(pairs, same)
            for name in ("edge_index", "edge_ids", "pair_of_edge", "first", "second"):
                assert torch.equal(getattr(some, name), getattr(others, name)), name

    def test_known_numbers_of_pairs_spare_waits_whatever_the_strengths(self):
        def kept(*between):
            graph = SparseGraph.from_pairs(*unordered_pairs(PTR, [3, 0, 1, 5]), BATCH, 4, *between)
            for number in (lambda pairs: pairs // 2 + 1, lambda pairs: pairs // 3):
                strength = torch.linspace(1, 9, graph.first.numel()).sin()
                strength[3:8] = torch.tensor([-torch.nan, torch.inf, torch.nan, -torch.inf, -torch.nan])
                graph, pairs = graph.keep_strongest_pairs(strength, number)
            return [*graph.edge_index, graph.pair_of_edge, pairs]

        expected = kept()
        with AsOnAGPU() as gpu:
            found = kept([3, 0, 0, 10])
        assert not gpu.waits
        assert all(map(torch.equal, found, expected))
        assert found[-1].numel() == 9 + 2 // 3 + 6 // 3
