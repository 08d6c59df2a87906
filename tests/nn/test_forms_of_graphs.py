"""Every layer on every graph format of PyTorch Geometric, and on graphs without some edges or nodes."""

import pytest
import torch
from layer_cases import (
    BIPARTITE,
    CASES,
    EDGES,
    NODES,
    SIZE,
    every_attention,
    every_layer,
    features,
    made,
    vectors,
    width,
)
from torch_geometric import EdgeIndex

from iagraph.nn import AttentionConv, DifferentialAttentionConv, InteractionAttentionConv, PairAttentionConv, TopK

sparse_warnings = pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch's own, of making any such tensor


def adjacency(edges, shape, layout, values=None):
    """The transposed adjacency, [targets, sources], and the edge of each of its entries."""
    number = torch.arange(edges.size(1))
    turned = torch.sparse_coo_tensor(edges.flip(0), number + 1.0, shape).coalesce()
    order = {torch.sparse_coo: turned, torch.sparse_csr: turned, torch.sparse_csc: turned.to_sparse_csc()}[layout]
    entry = order.values().long() - 1
    if layout == torch.sparse_coo:
        values = number + 1.0 if values is None else values  # as given, unsorted
        return torch.sparse_coo_tensor(edges.flip(0), values, (*shape, *values.shape[1:])), entry
    values = torch.ones(edges.size(1)) if values is None else values[entry]
    target, source = edges.flip(0)[:, entry]
    size = (*shape, *values.shape[1:])
    if layout == torch.sparse_csr:
        ptr = torch.bincount(target, minlength=shape[0]).cumsum(0)
        return torch.sparse_csr_tensor(torch.cat([ptr.new_zeros(1), ptr]), source, values, size), entry
    ptr = torch.bincount(source, minlength=shape[1]).cumsum(0)
    return torch.sparse_csc_tensor(torch.cat([ptr.new_zeros(1), ptr]), target, values, size), entry


LAYOUTS = [torch.sparse_coo, torch.sparse_csr, torch.sparse_csc]


@every_layer
def test_bipartite_graph_equals_one_graph_of_all_nodes(case):
    conv, source, target = made(case), vectors(5), vectors(3, seed=4)
    together = torch.stack([BIPARTITE[0] + 3, BIPARTITE[1]])
    edge_attr = features(case, BIPARTITE)
    out = conv((source, target), BIPARTITE, *edge_attr)
    assert out.shape == (3, width(conv))
    torch.testing.assert_close(out, conv(torch.cat([target, source]), together, *edge_attr)[:3])


@sparse_warnings
@every_layer
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_adjacency(case, layout):
    conv, x, edge_attr = made(case), vectors(), features(case)
    expected = conv(x, EDGES, *edge_attr)
    sparse, entry = adjacency(EDGES, (NODES, NODES), layout)
    torch.testing.assert_close(conv(x, sparse, *(each[entry] for each in edge_attr)), expected)
    if edge_attr:  # as values
        sparse, _ = adjacency(EDGES, (NODES, NODES), layout, *edge_attr)
        torch.testing.assert_close(conv(x, sparse), expected)


@pytest.mark.parametrize("name", ["interaction", "plain", "differential transformer", "edge"])
def test_layers_with_queries_require_targets(name):
    with pytest.raises(ValueError, match=r"give x = \(source, target\)"):
        made(CASES[name])((vectors(5), None), BIPARTITE, *features(CASES[name], BIPARTITE))


@sparse_warnings
@every_layer
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_bipartite_adjacency(case, layout):
    conv, both = made(case), (vectors(5), vectors(3, seed=4))
    edge_attr = features(case, BIPARTITE)
    sparse, _ = adjacency(BIPARTITE, (3, 5), layout, *edge_attr)
    torch.testing.assert_close(conv(both, sparse), conv(both, BIPARTITE, *edge_attr))
    with pytest.raises(ValueError, match=r"has shape \[5, 3\]: give it as \[targets, sources\], \[3, 5\]"):
        conv(both, adjacency(BIPARTITE.flip(0), (5, 3), layout)[0])


@sparse_warnings
@pytest.mark.parametrize("name", ["differential", "pair"])
def test_sparse_adjacency_gives_the_number_of_targets(name):
    conv, edge_attr = made(CASES[name]), features(CASES[name], BIPARTITE)
    sparse, _ = adjacency(BIPARTITE, (3, 5), torch.sparse_csr, *edge_attr)
    torch.testing.assert_close(conv((vectors(5), None), sparse), conv((vectors(5), vectors(3)), BIPARTITE, *edge_attr))


@sparse_warnings
@every_attention
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_adjacency_is_returned_with_the_weights(case, layout):
    conv, x, edge_attr = made(case), vectors(), features(case)
    _, (_, expected) = conv(x, EDGES, *edge_attr, return_attention_weights=True)
    sparse, entry = adjacency(EDGES, (NODES, NODES), layout, *edge_attr)
    _, (weighed, alpha) = conv(x, sparse, return_attention_weights=True)
    torch.testing.assert_close(alpha, expected[entry])
    assert weighed.layout == layout
    dense = torch.zeros(NODES, NODES, 3, dtype=torch.float64).index_put((EDGES[1], EDGES[0]), expected)
    torch.testing.assert_close(weighed.to_sparse_coo().to_dense(), dense)


@sparse_warnings
@every_attention
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_kept_edges_of_a_sparse_adjacency_are_numbered_as_its_entries(case, layout):
    conv, x, edge_attr = made(case), vectors(), features(case)
    conv.pruning = TopK(k=1)
    out, (_, alpha, ids) = conv(x, EDGES, *edge_attr, return_attention_weights=True)
    sparse, entry = adjacency(EDGES, (NODES, NODES), layout, *edge_attr)
    got, (edges, weights, found) = conv(x, sparse, return_attention_weights=True)
    torch.testing.assert_close(got, out)
    assert torch.equal(edges, EDGES[:, entry[found]])
    order = entry[found].argsort()
    assert torch.equal(entry[found][order], ids)
    torch.testing.assert_close(weights[order], alpha)


@pytest.mark.parametrize("layer", [DifferentialAttentionConv, PairAttentionConv, InteractionAttentionConv])
@sparse_warnings
def test_one_feature_per_edge_may_be_one_dimensional(layer):
    torch.manual_seed(1)
    conv, x, weight = layer(SIZE, 6, 3, 1).double(), vectors(), vectors(8, 1)
    expected = conv(x, EDGES, weight)
    torch.testing.assert_close(conv(x, EDGES, weight.squeeze(1)), expected)
    sparse, _ = adjacency(EDGES, (NODES, NODES), torch.sparse_csr, weight.squeeze(1))
    torch.testing.assert_close(conv(x, sparse), expected)


@every_layer
@pytest.mark.parametrize("sort_order", ["col", "row", None])
def test_edge_index_of_pytorch_geometric(case, sort_order):
    conv, x, edge_attr = made(case), vectors(), features(case)
    order = {"col": EDGES[1], "row": EDGES[0], None: torch.zeros(8)}[sort_order].argsort(stable=True)
    edges = EdgeIndex(EDGES[:, order], sparse_size=(NODES, NODES), sort_order=sort_order)
    expected = conv(x, EDGES, *edge_attr)
    edge_attr = [each[order] for each in edge_attr]
    torch.testing.assert_close(conv(x, edges, *edge_attr), expected)
    if isinstance(conv, AttentionConv):
        _, (same, _) = conv(x, edges, *edge_attr, return_attention_weights=True)
        assert same is edges


@every_layer
def test_invalid_graphs_are_refused(case):
    conv, x, edge_attr = made(case), vectors(), features(case)
    for edges in (EDGES.t(), EDGES[0], EDGES.unsqueeze(0)):
        with pytest.raises(ValueError, match=r"edge_index should hold integers, shape \[2, edges\]"):
            conv(x, edges, *edge_attr)
    with pytest.raises(ValueError, match="edge_index is list: give a tensor"):
        conv(x, EDGES.tolist(), *edge_attr)
    nodes = x[0].size(0) if isinstance(x, tuple) else x.size(0)
    for place, node in (((0, 1), nodes), ((1, 0), nodes), ((1, 2), -1), ((0, 2), -1)):
        edges = EDGES.clone()
        edges[place] = node
        what = ("source", "target")[place[0]]
        with pytest.raises(ValueError, match=f"edge_index has the {what} {node}: nodes are numbered from 0, and there"):
            conv(x, edges, *edge_attr)


@every_attention
def test_weights_of_a_target_sum_to_one_minus_beta(case):
    conv = made(case)
    _, (edges, alpha) = conv(vectors(), EDGES, *features(case), return_attention_weights=True)
    assert edges is EDGES
    sums = torch.zeros(NODES, 3, dtype=torch.float64).index_add(0, EDGES[1], alpha)
    beta = conv.beta.item() if hasattr(conv, "beta") else 0
    expected = torch.tensor([1.0, 1, 0, 1, 0, 0, 0], dtype=torch.float64).unsqueeze(1).expand(NODES, 3) * (1 - beta)
    torch.testing.assert_close(sums, expected)


@every_layer
def test_nodes_and_edges_in_another_order(case):
    conv, x, edge_attr = made(case), vectors(), features(case)
    place, order = torch.randperm(NODES), torch.randperm(EDGES.size(1))
    moved = torch.empty_like(x)
    moved[place] = x
    out = conv(moved, place[EDGES[:, order]], *(each[order] for each in edge_attr))
    torch.testing.assert_close(out[place], conv(x, EDGES, *edge_attr))


@every_layer
def test_nodes_without_edges(case):
    conv, x = made(case), vectors()
    out = conv(x, EDGES, *features(case))
    nobody = EDGES[:, :0]
    alone = conv(x, nobody, *features(case, nobody))
    torch.testing.assert_close(out[[2, 4, 5, 6]], alone[[2, 4, 5, 6]])
    assert (out[[0, 1, 3]] - alone[[0, 1, 3]]).abs().amax(1).min() > 1e-3
    if isinstance(conv, AttentionConv):
        bias = conv.lin_out.bias
        assert torch.equal(alone, torch.zeros_like(alone) if bias is None else bias.expand_as(alone))
    else:
        torch.testing.assert_close(alone, conv.shortcut(x).relu())


@every_layer
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [0, 1, NODES])
def test_no_edges_and_no_nodes(case, training, rows):
    conv, x, nobody = made(case).train(training), vectors(rows).requires_grad_(), EDGES[:, :0]
    out = conv(x, nobody, *features(case, nobody))
    assert out.shape == (rows, width(conv))
    assert out.isfinite().all()
    out.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in conv.parameters())
