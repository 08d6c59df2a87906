import math

import pytest
import torch
from torch.testing import assert_close

from iagraph.graph import fully_connected
from iagraph.interpret.rows import Rows, entropy, fractions, is_non_binary, largest_source, per_jet, spread

# Particle 0 attends to itself and 2, particle 1 to none, particle 2 to all three.
EDGES = torch.tensor([[0, 2, 0, 1, 2], [0, 0, 2, 2, 2]])


def test_layout_by_hand():
    rows = Rows.of(EDGES, 3)
    assert rows.source.tolist() == [[0, 2, -1], [-1, -1, -1], [0, 1, 2]]
    assert rows.others.tolist() == [[False, True, False], [False] * 3, [True, True, False]]
    placed = rows.place(torch.arange(1, 11).view(5, 2))
    assert placed.tolist() == [[[1, 3, 0], [2, 4, 0]], [[0, 0, 0], [0, 0, 0]], [[5, 7, 9], [6, 8, 10]]]


def test_complete_graphs_are_squares():
    ptr = torch.tensor([0, 3, 3, 5])
    rows = Rows.of(fully_connected(ptr), 5)
    assert rows.source.tolist() == [[0, 1, 2]] * 3 + [[3, 4, -1]] * 2


@pytest.mark.parametrize("nodes", [0, 2])
def test_no_edges(nodes):
    rows = Rows.of(torch.zeros(2, 0, dtype=torch.long), nodes)
    assert rows.source.shape == (nodes, 1)
    weights = rows.place(torch.zeros(0, 7))
    assert not is_non_binary(fractions(weights)).any()
    assert spread(weights, rows.real).eq(0).all()


def test_unsorted_edges_are_refused():
    with pytest.raises(ValueError, match="sorted by target"):
        Rows.of(EDGES.flip(1), 3)


def test_fractions_of_signed_weights():
    assert_close(
        fractions(torch.tensor([[0.6, -0.2, 0.0], [0.0, 0.0, 0.0]])), torch.tensor([[0.75, 0.25, 0], [0, 0, 0]])
    )


def test_binary_and_non_binary_rows():
    fraction = torch.tensor([[0.79, 0.21], [0.81, 0.19], [1.0, 0.0], [0.5, 0.5], [0.0, 0.0]])
    assert is_non_binary(fraction).tolist() == [True, False, False, True, False]
    assert is_non_binary(fraction, 0.5).tolist() == [False] * 5


def test_entropy_of_one_hot_even_and_by_hand():
    fraction = torch.tensor([[1.0, 0, 0, 0, 0], [0.2] * 5, [0.5, 0.25, 0.25, 0, 0]])
    assert_close(entropy(fraction), torch.tensor([0.0, math.log(5), 1.5 * math.log(2)]))


def test_spread_ignores_constants_and_padding():
    rows = Rows.of(EDGES, 3)
    scores = torch.tensor([[3.0], [7.0], [1.0], [2.0], [6.0]])  # rows 3, 7 and 1, 2, 6
    expected = torch.tensor([[2.0], [0.0], [math.sqrt(14 / 3)]])
    assert_close(spread(rows.place(scores), rows.real), expected)
    assert_close(spread(rows.place(scores + 100), rows.real), expected)


def test_largest_source_is_never_padding():
    rows = Rows.of(EDGES, 3)
    scores = torch.tensor([[-3.0], [-7.0], [-9.0], [-2.0], [-6.0]])
    assert largest_source(rows.place(scores), rows.real)[[0, 2]].tolist() == [[0], [1]]


def test_sums_of_jets():
    values = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert per_jet(values, torch.tensor([0, 0, 2]), 4).tolist() == [10, 0, 11, 0]
    assert per_jet(values[:, 0], torch.tensor([0, 0, 2]), 3).tolist() == [4, 0, 5]
