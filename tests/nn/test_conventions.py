"""What users of PyTorch Geometric expect of a layer, asked of every layer that sends messages."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch_geometric import EdgeIndex
from torch_geometric.nn import HeteroConv, summary
from torch_geometric.nn.dense.linear import is_uninitialized_parameter

from iagraph.nn import (
    AttentionConv,
    DifferentialAttentionConv,
    DifferentialTransformerConv,
    EdgeConv,
    InteractionAttentionConv,
    PairAttentionConv,
    TopK,
)

EDGES = torch.tensor([[0, 1, 2, 4, 3, 3, 0, 2], [1, 1, 1, 0, 0, 3, 3, 3]])  # none at 5 and 6, none arrives at 2 and 4
NODES, SIZE = 7, 5
BIPARTITE = torch.tensor([[0, 1, 2, 4, 3, 3], [1, 1, 1, 0, 0, 2]])  # from five nodes to three


class Case(NamedTuple):
    make: Callable[..., torch.nn.Module]
    edge_dim: int
    text: str


CASES = {
    "differential": Case(
        lambda size=SIZE: DifferentialAttentionConv(size, 6, 3, 11),
        11,
        "DifferentialAttentionConv({}, 6, heads=3, edge_dim=11)",
    ),
    "pair": Case(
        lambda size=SIZE: PairAttentionConv(size, 6, 3, 11), 11, "PairAttentionConv({}, 6, heads=3, edge_dim=11)"
    ),
    "interaction": Case(
        lambda size=SIZE: InteractionAttentionConv(size, 6, 3, 11, bias=True),
        11,
        "InteractionAttentionConv({}, 6, heads=3, edge_dim=11)",
    ),
    "plain": Case(
        lambda size=SIZE: InteractionAttentionConv(size, 6, 3),
        0,
        "InteractionAttentionConv({}, 6, heads=3, edge_dim=None)",
    ),
    "differential transformer": Case(
        lambda size=SIZE: DifferentialTransformerConv(size, 12, 3),
        0,
        "DifferentialTransformerConv({}, 12, heads=3, edge_dim=None)",
    ),
    "differential of both": Case(
        lambda size=SIZE: DifferentialTransformerConv(size, 12, 3, 11),
        11,
        "DifferentialTransformerConv({}, 12, heads=3, edge_dim=11)",
    ),
    "edge": Case(lambda size=SIZE: EdgeConv(size, (11, 13)), 0, "EdgeConv({}, (11, 13))"),
}
ATTENTION = {name: case for name, case in CASES.items() if name != "edge"}

every_layer = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_attention = pytest.mark.parametrize("case", ATTENTION.values(), ids=ATTENTION)
sparse_warnings = pytest.mark.filterwarnings("ignore:Sparse")  # PyTorch's own, of making any such tensor


def made(case, size=SIZE, seed=1):
    torch.manual_seed(seed)
    return case.make(size).double().eval()


def features(case, edges=EDGES, seed=2):
    """Edge features as a tuple of arguments: none of a layer that takes none."""
    random = torch.Generator().manual_seed(seed)
    shape = (edges.size(1), case.edge_dim)
    return (torch.randn(shape, generator=random, dtype=torch.float64),) if case.edge_dim else ()


def vectors(rows=NODES, size=SIZE, seed=3):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def width(conv):
    return conv.out_channels if isinstance(conv, AttentionConv) else conv.channels[-1]


def adjacency(edges, shape, layout, values=None):
    """The transposed adjacency, [targets, sources], and for each of its entries which edge it is."""
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
def test_sizes_and_name(case):
    conv = made(case)
    assert conv(vectors(), EDGES, *features(case)).shape == (NODES, width(conv))
    assert str(conv) == case.text.format(SIZE)
    assert str(case.make(-1)) == case.text.format(-1)


@pytest.mark.parametrize("layer", [InteractionAttentionConv, DifferentialTransformerConv])
def test_one_head_and_no_edge_features_are_the_default(layer):
    assert str(layer(5, 6)) == f"{layer.__name__}(5, 6, heads=1, edge_dim=None)"


@every_attention
def test_name_of_a_bipartite_layer(case):
    assert str(case.make((5, 3))) == case.text.format((5, 3))


@every_layer
def test_bipartite_graph_equals_one_graph_of_all_nodes(case):
    conv, source, target = made(case), vectors(5), vectors(3, seed=4)
    together = torch.stack([BIPARTITE[0] + 3, BIPARTITE[1]])
    edge_attr = features(case, BIPARTITE)
    out = conv((source, target), BIPARTITE, *edge_attr)
    assert out.shape == (3, width(conv))
    torch.testing.assert_close(out, conv(torch.cat([target, source]), together, *edge_attr)[:3])


@every_attention
def test_sources_and_targets_of_different_sizes(case):
    conv, source, target = made(case, (5, 2)), vectors(5), vectors(3, 2)
    edge_attr = features(case, BIPARTITE)
    out = conv((source, target), BIPARTITE, *edge_attr)
    other = target.clone()
    other[1] += 1
    moved = (conv((source, other), BIPARTITE, *edge_attr) - out).abs().amax(1) > 1e-6
    assert moved.tolist() == [False, isinstance(conv, InteractionAttentionConv), False]


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
def test_layers_that_look_at_targets_say_that_they_need_them(name):
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
def test_sparse_adjacency_tells_the_number_of_targets(name):
    conv, edge_attr = made(CASES[name]), features(CASES[name], BIPARTITE)
    sparse, _ = adjacency(BIPARTITE, (3, 5), torch.sparse_csr, *edge_attr)
    torch.testing.assert_close(conv((vectors(5), None), sparse), conv((vectors(5), vectors(3)), BIPARTITE, *edge_attr))


@sparse_warnings
@every_attention
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_sparse_adjacency_comes_back_with_the_weights(case, layout):
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
def test_survivors_of_a_sparse_adjacency_are_numbered_as_its_entries(case, layout):
    conv, x, edge_attr = made(case), vectors(), features(case)
    conv.pruning = TopK(k=1)
    out, (left, alpha, ids) = conv(x, EDGES, *edge_attr, return_attention_weights=True)
    sparse, entry = adjacency(EDGES, (NODES, NODES), layout, *edge_attr)
    got, (edges, weights, found) = conv(x, sparse, return_attention_weights=True)
    torch.testing.assert_close(got, out)
    assert torch.equal(edges, EDGES[:, entry[found]])
    order = entry[found].argsort()
    assert torch.equal(entry[found][order], ids)
    torch.testing.assert_close(weights[order], alpha)


@pytest.mark.parametrize("layer", [DifferentialAttentionConv, PairAttentionConv, InteractionAttentionConv])
@sparse_warnings
def test_one_feature_per_edge_needs_no_axis(layer):
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
def test_what_is_no_graph_is_refused(case):
    conv, x, edge_attr = made(case), vectors(), features(case)
    for edges in (EDGES.t(), EDGES[0], EDGES.unsqueeze(0)):
        with pytest.raises(ValueError, match=r"edge_index is of shape \[.*\]: give a tensor \[2, edges\]"):
            conv(x, edges, *edge_attr)
    with pytest.raises(ValueError, match="edge_index is list: give a tensor"):
        conv(x, EDGES.tolist(), *edge_attr)


@every_layer
@pytest.mark.parametrize("both", [False, True])
def test_lazy_sizes(case, both):
    torch.manual_seed(5)
    if both and case is CASES["edge"]:
        pytest.skip("an edge convolution needs vectors of one size")
    conv = case.make((-1, -1) if both else -1).double().eval()
    conv.reset_parameters()  # nothing to do yet
    assert any(is_uninitialized_parameter(parameter) for parameter in conv.parameters())
    blank, twin = copy.deepcopy(conv.state_dict()), copy.deepcopy(conv)
    out = conv(vectors(), EDGES, *features(case))
    assert out.shape == (NODES, width(conv))
    known = made(case)  # its shortcut is a linear map, too: 5 is not 13
    assert {name: p.shape for name, p in conv.named_parameters()} == {n: p.shape for n, p in known.named_parameters()}
    for name, parameter in conv.named_parameters():
        if name.endswith("weight") and parameter.ndim == 2:  # drawn as torch.nn.Linear draws
            bound = parameter.size(1) ** -0.5
            assert bound / 2 < parameter.abs().max() <= bound, name
    for other in (known, twin, made(case, -1, seed=6)):
        other.load_state_dict(conv.state_dict())
        torch.testing.assert_close(other(vectors(), EDGES, *features(case)), out)
        before = copy.deepcopy(other.state_dict())
        other.reset_parameters()
        changed = [name for name, value in other.state_dict().items() if not torch.equal(value, before[name])]
        matrices = [name for name, p in other.named_parameters() if p.ndim == 2]
        assert set(matrices) <= set(changed)
    fresh = made(case, -1, seed=7)
    fresh.load_state_dict(blank)
    assert fresh.double()(vectors(), EDGES, *features(case)).shape == out.shape


def test_lazy_edge_convolution_with_k_neighbours():
    conv = EdgeConv(-1, (7, 4)).double().eval()
    neighbors = torch.tensor([[1, 2], [2, 0], [0, 1]])
    out = conv.convolve(vectors(3), neighbors)
    edges = torch.stack([neighbors.flatten(), torch.arange(3).repeat_interleave(2)])
    torch.testing.assert_close(conv(vectors(3), edges), out)


@every_layer
def test_copies_and_stored_weights_give_the_same(case, tmp_path):
    conv, x, edge_attr = made(case), vectors(), features(case)
    expected = conv(x, EDGES, *edge_attr)
    torch.save(conv.state_dict(), tmp_path / "weights.pt")
    other = made(case, seed=8)
    assert (other(x, EDGES, *edge_attr) - expected).abs().max() > 1e-3
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    for same in (other, copy.deepcopy(conv)):
        assert torch.equal(same(x, EDGES, *edge_attr), expected)


@every_attention
def test_weights_of_a_target_sum_to_one_less_beta(case):
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


@every_layer
def test_gradients_reach_everything(case):
    conv, x = made(case).train(), vectors().requires_grad_()
    edge_attr = [each.requires_grad_() for each in features(case)]
    out = conv(x, EDGES, *edge_attr)
    (out * vectors(*out.shape, seed=9)).sum().backward()
    # 5 and 6 have no edges: an attention layer makes nothing of them, an edge convolution has its shortcut.
    reached = 5 if isinstance(conv, AttentionConv) else NODES
    assert x.grad[:reached].abs().amax(1).min() > 1e-6
    assert all(each.grad.abs().amax(1).min() > 1e-6 for each in edge_attr)
    for name, parameter in conv.named_parameters():
        if name != "lin_key.bias":  # adds the same to all scores of a target
            assert parameter.grad.abs().max() > 1e-6, name


@every_layer
def test_summary(case):
    pytest.importorskip("tabulate")
    for conv in (made(case), made(case, -1)):
        table = summary(conv, vectors(), EDGES, *features(case))
    number = sum(parameter.numel() for parameter in made(case).parameters())
    row = next(line for line in table.splitlines() if type(conv).__name__ in line)
    assert f"[{NODES}, {SIZE}], [2, 8]" in row
    assert f"[{NODES}, {width(conv)}]" in row
    assert f"[{NODES}, {SIZE}]" in table
    assert f" {number:,} " in summary(made(case), vectors(), EDGES, *features(case))


@pytest.mark.filterwarnings("ignore:There exist node types")  # hits are not updated, as is meant
@every_attention
def test_several_kinds_of_edges(case):
    """HeteroConv calls layers with both kinds of nodes; where the source has the name of the target, with one."""
    torch.manual_seed(4)
    kinds = [("hit", "in", "track"), ("track", "near", "track")]
    layers = {kind: case.make((-1, -1)).double() for kind in kinds}
    net = HeteroConv(layers, aggr="sum")
    nodes = {"hit": vectors(5, 4), "track": vectors(3, 2)}
    edges = dict(zip(kinds, (BIPARTITE, torch.tensor([[0, 1, 2], [1, 2, 2]])), strict=True))
    edge_attr = {kind: features(case, edges[kind])[0] for kind in kinds} if case.edge_dim else {}
    out = net(nodes, edges, **({"edge_attr_dict": edge_attr} if edge_attr else {}))
    expected = layers[kinds[0]]((nodes["hit"], nodes["track"]), edges[kinds[0]], edge_attr.get(kinds[0]))
    expected = expected + layers[kinds[1]](nodes["track"], edges[kinds[1]], edge_attr.get(kinds[1]))
    torch.testing.assert_close(out["track"], expected)
