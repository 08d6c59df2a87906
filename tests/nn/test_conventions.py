"""Conventions of PyTorch Geometric beyond the equation, for every message-passing layer."""

import copy

import pytest
import torch
from layer_cases import (
    ATTENTION,
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
from torch_geometric.nn import HeteroConv, summary, to_hetero
from torch_geometric.nn.dense.linear import is_uninitialized_parameter

from iagraph.nn import AttentionConv, DifferentialTransformerConv, EdgeConv, InteractionAttentionConv


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
def test_representation_of_a_bipartite_layer(case):
    assert str(case.make((5, 3))) == case.text.format((5, 3))


@every_attention
def test_sources_and_targets_of_different_sizes(case):
    conv, source, target = made(case, (5, 2)), vectors(5), vectors(3, 2)
    edge_attr = features(case, BIPARTITE)
    out = conv((source, target), BIPARTITE, *edge_attr)
    other = target.clone()
    other[1] += 1
    moved = (conv((source, other), BIPARTITE, *edge_attr) - out).abs().amax(1) > 1e-6
    assert moved.tolist() == [False, isinstance(conv, InteractionAttentionConv), False]


@pytest.mark.parametrize(
    ("name", "size"), [*((name, -1) for name in CASES), *((name, (-1, -1)) for name in ATTENTION)], ids=str
)
def test_lazy_sizes(name, size):
    torch.manual_seed(5)
    case = CASES[name]
    conv = case.make(size).double().eval()
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
def test_copies_and_stored_weights_give_the_same_result(case, tmp_path):
    conv, x, edge_attr = made(case), vectors(), features(case)
    expected = conv(x, EDGES, *edge_attr)
    torch.save(conv.state_dict(), tmp_path / "weights.pt")
    other = made(case, seed=8)
    assert (other(x, EDGES, *edge_attr) - expected).abs().max() > 1e-3
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    for same in (other, copy.deepcopy(conv)):
        assert torch.equal(same(x, EDGES, *edge_attr), expected)


@every_layer
def test_gradients_reach_all_inputs_and_parameters(case):
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


@pytest.mark.filterwarnings("ignore:There exist node types")  # hits are not updated, as intended
@every_attention
def test_hetero_conv(case):
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


@every_attention
def test_to_hetero(case):
    """to_hetero traces a network and repeats its layers for each kind of edges; sizes are found with the first data."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = case.make((-1, -1)), case.make((-1, -1))

        def forward(self, x, edge_index, edge_attr=None):
            return self.second(self.first(x, edge_index, edge_attr).relu(), edge_index, edge_attr)

    kinds = [("hit", "in", "track"), ("track", "has", "hit")]
    net = to_hetero(Net(), (["hit", "track"], kinds)).double()
    nodes, edges = {"hit": vectors(5, 4), "track": vectors(3, 2)}, {kinds[0]: BIPARTITE, kinds[1]: BIPARTITE.flip(0)}
    edge_attr = {kind: features(case, edges[kind])[0] for kind in kinds} if case.edge_dim else dict.fromkeys(kinds)
    out = net(nodes, edges, edge_attr)
    tracks = net.first.hit__in__track((nodes["hit"], nodes["track"]), BIPARTITE, edge_attr[kinds[0]]).relu()
    hits = net.first.track__has__hit((nodes["track"], nodes["hit"]), BIPARTITE.flip(0), edge_attr[kinds[1]]).relu()
    expected = net.second.hit__in__track((hits, tracks), BIPARTITE, edge_attr[kinds[0]])
    torch.testing.assert_close(out["track"], expected)
