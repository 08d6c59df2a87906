import pytest
import torch
from torch_geometric import EdgeIndex

from iagraph.nn.adjacency import edges_of

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch's own, of making any such tensor

EDGES = torch.tensor([[3, 0, 4], [1, 1, 0]])


def sparse(values, shape=(2, 5)):
    return torch.sparse_coo_tensor(EDGES.flip(0), values, (*shape, *values.shape[1:]))


@pytest.mark.parametrize(("targets", "expected"), [(2, 2), (None, 5)])
def test_tensors_are_unchanged(targets, expected):
    edges = edges_of(EDGES, 5, targets)
    assert edges.edge_index is edges.given is EDGES
    assert (edges.num_targets, edges.values) == (expected, None)
    assert edges.weighted(torch.ones(3, 2)) is EDGES


def test_edge_index_is_read_and_returned():
    given = EdgeIndex(EDGES, sparse_size=(5, 2))
    edges = edges_of(given, 5, 2)
    assert type(edges.edge_index) is torch.Tensor
    assert torch.equal(edges.edge_index, EDGES)
    assert edges.weighted(torch.ones(3, 2)) is given


@pytest.mark.parametrize("targets", [2, None])
def test_adjacency_is_read_row_by_row(targets):
    edges = edges_of(sparse(torch.tensor([[7.0, 8.0], [5.0, 6.0], [1.0, 2.0]])), 5, targets)
    assert edges.edge_index.tolist() == [[4, 0, 3], [0, 1, 1]]
    assert edges.values.tolist() == [[1, 2], [5, 6], [7, 8]]
    assert edges.num_targets == 2


def test_uncoalesced_adjacency_of_the_caller_is_unchanged():
    given = torch.sparse_coo_tensor([[1, 0, 1], [3, 4, 3]], torch.tensor([1.0, 2.0, 4.0]), (2, 5))
    edges = edges_of(given, 5, 2)
    assert edges.edge_index.tolist() == [[4, 3], [0, 1]]
    assert edges.values.tolist() == [2, 5]  # duplicate entries are one edge, as in any matrix
    assert not given.is_coalesced()


def csr(values):
    return torch.sparse_csr_tensor([0, 1, 3], [4, 0, 3], values.flip(0), (2, 5))


def csc(values):
    return torch.sparse_csc_tensor([0, 1, 1, 1, 2, 3], [1, 1, 0], values[[1, 0, 2]], (2, 5))


@pytest.mark.parametrize("make", [sparse, csr, csc])
def test_gradients_reach_values_through_the_weights(make):
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    edges = edges_of(make(values), 5, 2)
    weighed = edges.weighted(edges.values.square())
    (weighed.to_dense() * torch.arange(10.0).view(2, 5)).sum().backward()
    assert values.grad.tolist() == [2 * 1 * 8, 2 * 2 * 5, 2 * 3 * 4]


@pytest.mark.parametrize("shape", [(5, 2), (3, 5), (2, 6)])
def test_adjacency_of_wrong_size_is_refused(shape):
    with pytest.raises(ValueError, match=r"give it as \[targets, sources\], \[2, 5\]"):
        edges_of(torch.sparse_coo_tensor([[0], [1]], [1.0], shape), 5, 2)
