import math

import pytest
import torch

from iagraph.graph import SparseGraph
from iagraph.nn import DifferentialAttentionConv, EdgeBudget, InteractionAttentionConv, PairAttentionConv, TopK
from iagraph.nn.pruning import RULES, Threshold, TopP, pruning_rule

# Two graphs: nodes 0 to 2 and 3 to 4. Edges are not sorted; edge 2 and edge 6 are of a node with itself.
SOURCE = torch.tensor([1, 2, 0, 0, 2, 4, 3, 1])
TARGET = torch.tensor([0, 0, 0, 1, 1, 3, 3, 2])
GRAPH = torch.tensor([0, 0, 0, 0, 0, 1, 1, 0])


def graph_of(source, target, graph, num_nodes, num_graphs):
    """The edges as a batch of graphs; the target of an edge gives its graph."""
    batch = torch.zeros(num_nodes, dtype=torch.long).index_copy(0, target, graph)
    return SparseGraph.scored_per_edge(torch.stack([source, target]), num_nodes, batch, num_graphs=num_graphs)


EDGES = graph_of(SOURCE, TARGET, GRAPH, 5, 2)
#                        1>0   2>0  0>0   0>1   2>1    4>3   3>3   1>2
ALPHA = torch.tensor([[0.5, -0.2, 0.3, -0.6, 0.4, 0.05, 0.95, 1.0], [0.1, 0.6, 0.3, 0.5, 0.5, 0.15, 0.85, 1.0]])
# Mean of |alpha|:       0.3   0.4        0.55  0.45   0.10         1.0


def kept(rule):
    return rule(ALPHA, EDGES).int().tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Threshold(minimum=0.42), [0, 0, 1, 1, 1, 0, 1, 1]),
        (Threshold(minimum=0), [1] * 8),
        (TopK(k=1), [0, 1, 1, 1, 0, 1, 1, 1]),
        (TopK(k=2), [1] * 8),
        (TopK(k=99), [1] * 8),
        # node 0: 0.4 of 0.7 is 0.571; node 1: 0.55 of 1.0
        (TopP(p=0.55), [0, 1, 1, 1, 0, 1, 1, 1]),
        (TopP(p=0.56), [0, 1, 1, 1, 1, 1, 1, 1]),
        (TopP(p=0.58), [1] * 8),
        (TopP(p=1), [1] * 8),
        # graph 0 has five edges between different nodes, graph 1 one
        (EdgeBudget(fraction=0.4), [0, 0, 1, 1, 0, 1, 1, 1]),
        (EdgeBudget(fraction=0.41), [0, 0, 1, 1, 1, 1, 1, 1]),
        (EdgeBudget(fraction=1), [1] * 8),
    ],
)
def test_rules_by_hand(rule, expected):
    assert kept(rule) == [expected]


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (Threshold(0.45, per_head=True), [1, 0, 1, 1, 0, 0, 1, 1], [0, 1, 1, 1, 1, 0, 1, 1]),
        (TopK(1, per_head=True), [1, 0, 1, 1, 0, 1, 1, 1], [0, 1, 1, 1, 0, 1, 1, 1]),  # of equal weights the first
        (TopP(0.71, per_head=True), [1, 0, 1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1, 1]),
        (EdgeBudget(0.4, per_head=True), [0, 0, 1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 1, 1, 1]),
    ],
)
def test_rules_per_head_by_hand(rule, first, second):
    assert kept(rule) == [first, second]


@pytest.mark.parametrize("rule", [Threshold(minimum=0.42), TopK(k=1), TopP(p=0.5), EdgeBudget(fraction=0.3)])
def test_relaxed_rule_drops_nothing_at_first_and_the_same_at_the_end(rule):
    assert kept(rule.relaxed(0.0)) == [[1] * 8]
    assert rule.relaxed(1.0) == rule
    numbers = [sum(kept(rule.relaxed(t / 10))[0]) for t in range(11)]
    assert numbers == sorted(numbers, reverse=True)


def test_budget_keeps_at_least_one_edge():
    assert kept(EdgeBudget(1e-9)) == [[0, 0, 1, 0, 0, 1, 1, 1]]


def test_relaxed_rule_in_between():
    assert TopK(3).relaxed(1e-300).k == TopK(3).relaxed(0.0).k == 2**62
    assert Threshold(minimum=0.4).relaxed(0.25).minimum == pytest.approx(0.1)
    assert TopK(k=3).relaxed(0.5).k == 6
    assert TopP(p=0.8).relaxed(0.5).p == pytest.approx(0.9)
    assert EdgeBudget(fraction=0.2).relaxed(0.25).fraction == pytest.approx(0.8)


@pytest.mark.parametrize("name", RULES)
def test_no_edges(name):
    nothing = torch.zeros(0, dtype=torch.long)
    rule = pruning_rule(name, 1 if name == "top_k" else 0.5)
    assert rule(torch.zeros(2, 0), graph_of(nothing, nothing, nothing, 0, 0)).shape == (1, 0)


def test_rules_by_name():
    assert pruning_rule("top_k", 5.0) == TopK(k=5)
    how = {"per_head": True, "renormalize": True}
    assert pruning_rule("top_p", 0.9, **how) == TopP(0.9, **how)
    assert pruning_rule("top_mass", 0.9, **how) == TopP(0.9, **how)  # its former name
    with pytest.raises(ValueError, match="unknown pruning rule 'topk'; there are threshold, top_k, top_p, edge_bud"):
        pruning_rule("topk", 5)


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("threshold", 1.0, r"threshold 1.0: should be in \[0, 1\)"),
        ("threshold", float("nan"), "threshold nan"),
        ("threshold", -0.1, "threshold -0.1"),
        ("top_k", 0, "k = 0: should be a whole number of at least 1"),
        ("top_k", 2.5, "k = 2.5"),
        ("top_k", 2**63, "at most 2\\^62"),
        ("top_p", 0.0, r"p 0.0: should be in \(0, 1\]"),
        ("top_p", 1.1, "p 1.1"),
        ("edge_budget", 0.0, "fraction 0.0"),
        ("edge_budget", float("nan"), "fraction nan"),
    ],
)
def test_rules_that_would_drop_everything_are_refused(name, strength, message):
    with pytest.raises(ValueError, match=message):
        pruning_rule(name, strength)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_and_sums_by_brute_force(dtype):
    torch.manual_seed(3)
    values, segment = torch.rand(3, 53, dtype=dtype), torch.randint(7, (53,)) * 2
    values[:, ::5] = values[0, 0]  # ties
    values[:, 1] = 0
    graph = graph_of(torch.randint(15, (53,)), segment, torch.zeros_like(segment), 15, 1)
    best = [graph.strongest(values, number, per="target") for number in range(54)]
    larger, totals = graph.cumulative(values)
    for row in range(53):
        same = (segment == segment[row]).nonzero().squeeze(1).tolist()
        for column in range(3):
            own = values[column, row]
            ahead = [s for s in same if (values[column, s], -s) > (own, -row)]
            for number, chosen in enumerate(best):
                assert chosen[column, row] == (len(ahead) < number)
            torch.testing.assert_close(larger[column, row], values[column, ahead].sum())
            torch.testing.assert_close(totals[column, row], values[column, same].sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_budget_by_brute_force(dtype):
    torch.manual_seed(4)
    strength, batch = torch.randn(2, 90, dtype=dtype), torch.randint(4, (9,)) * 3  # negative ones, too
    strength[:, ::4] = strength[0, 0]  # ties
    source, target = torch.randint(9, (2, 90))
    graph = batch[target]
    strength[:, source == target] = -torch.inf
    edges = SparseGraph.scored_per_edge(torch.stack([source, target]), 9, batch, num_graphs=10)
    chosen = EdgeBudget(fraction=0.37).choose(strength, edges)
    for column in range(2):
        expected = set()
        for number in graph.unique():
            between = ((graph == number) & (source != target)).nonzero().squeeze(1).tolist()
            best_first = sorted(between, key=lambda edge: (-strength[column, edge], edge))
            expected |= set(best_first[: math.ceil(0.37 * len(between))])
        assert set(chosen[column].nonzero().squeeze(1).tolist()) == expected


# --- layers ---

LAYERS = {
    "differential": lambda **kw: DifferentialAttentionConv(5, 6, 3, 7, beta=0.3, **kw),
    "pair": lambda **kw: PairAttentionConv(5, 6, 3, 7, **kw),
    "interaction": lambda **kw: InteractionAttentionConv(5, 6, 3, 7, **kw),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def case(make, rule, seed=2):
    """A layer with a rule and the same layer without, on a graph with several in-edges per node and two self-loops."""
    torch.manual_seed(seed)
    plain, pruned = make().double(), make(pruning=rule).double()
    pruned.load_state_dict(plain.state_dict())
    edge_index = torch.stack([torch.randint(11, (40,)), torch.randint(11, (40,))]).unique(dim=1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1))]
    return plain, pruned, torch.randn(11, 5).double(), edge_index, 3 * torch.randn(edge_index.size(1), 7).double()


@every_layer
@pytest.mark.parametrize("per_head", [False, True])
def test_after_the_softmax_kept_edges_keep_their_weights(make, per_head, backend):
    plain, pruned, x, edge_index, edge_attr = case(make, TopK(2, per_head=per_head))
    _, (_, alpha) = plain(x, edge_index, edge_attr, return_attention_weights=True)
    out, (left, weights, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    assert torch.equal(left, edge_index[:, ids])
    assert 0 < len(ids) < edge_index.size(1)
    whole = torch.zeros_like(alpha).index_copy(0, ids, weights)
    wanted = TopK(2, per_head=per_head)(alpha.t(), SparseGraph.scored_per_edge(edge_index, 11)).t()
    torch.testing.assert_close(whole, alpha * wanted)
    torch.testing.assert_close(out, by_hand(plain, x, edge_index, whole))


@every_layer
@pytest.mark.parametrize("per_head", [False, True])
def test_before_the_softmax_weights_are_a_softmax_of_kept_edges(make, per_head, backend):
    rule = TopK(2, per_head=per_head, renormalize=True)
    plain, pruned, x, edge_index, edge_attr = case(make, rule)
    _, (_, alpha) = plain(x, edge_index, edge_attr, return_attention_weights=True)
    wanted = rule(alpha.t(), SparseGraph.scored_per_edge(edge_index, 11)).t()
    out, (_, weights, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    whole = torch.zeros_like(alpha).index_copy(0, ids, weights)
    if not per_head:  # the layer without a rule, on the graph without the dropped edges
        kept = wanted.squeeze(1)
        expected, (_, some) = plain(x, edge_index[:, kept], edge_attr[kept], return_attention_weights=True)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(weights, some)
    rows = torch.zeros(11, 3).double().index_add(0, edge_index[1], whole)
    mass = 0.7 if isinstance(plain, DifferentialAttentionConv) else 1.0
    torch.testing.assert_close(
        rows[edge_index[1].unique()], torch.full((len(edge_index[1].unique()), 3), mass).double()
    )
    assert not whole[~wanted.expand_as(whole)].any()


def by_hand(conv, x, edge_index, alpha):
    out = torch.zeros(11, 6, dtype=x.dtype)
    value = conv.lin_value(x)
    for (source, target), weight in zip(edge_index.t().tolist(), alpha, strict=True):
        out[target] += weight.repeat_interleave(2) * value[source]
    return conv.lin_out(out)


@every_layer
@pytest.mark.parametrize("name", RULES)
def test_rule_without_drops_changes_nothing(make, name, backend):
    rule = {"threshold": 0.0, "top_k": 99}.get(name, 1.0)
    plain, pruned, x, edge_index, edge_attr = case(make, pruning_rule(name, rule))
    out, (left, _, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    torch.testing.assert_close(out, plain(x, edge_index, edge_attr), rtol=0, atol=1e-13)
    assert torch.equal(left, edge_index)
    assert torch.equal(ids, torch.arange(edge_index.size(1)))


@every_layer
@pytest.mark.parametrize("renormalize", [False, True])
def test_gradients_flow_only_through_kept_edges(make, renormalize, backend):
    _, pruned, x, edge_index, edge_attr = case(make, TopK(renormalize=renormalize, k=1))
    edge_attr.requires_grad_()
    out, (_, _, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    out.square().sum().backward()
    assert all(p.grad.abs().max() > 1e-9 for p in pruned.parameters())
    dropped = torch.ones(edge_index.size(1), dtype=torch.bool).index_fill(0, ids, False)
    assert edge_attr.grad[ids].abs().sum(1).max() > 1e-6
    if renormalize:  # else a dropped edge still is in the sum below the fraction
        assert edge_attr.grad[dropped].abs().max() < 1e-12

    def run(x, edge_attr):
        return pruned(x, edge_index, edge_attr)

    assert torch.autograd.gradcheck(run, (x.requires_grad_(), edge_attr))


@pytest.mark.parametrize("renormalize", [False, True])
def test_node_without_kept_edges_has_zero_output_and_finite_gradients(renormalize):
    _, pruned, x, edge_index, edge_attr = case(LAYERS["pair"], Threshold(renormalize=renormalize, minimum=0.6))
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    edge_attr = edge_attr[: edge_index.size(1)].requires_grad_()
    out, (left, _, _) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    lost = torch.tensor(sorted(set(edge_index[1].tolist()) - set(left[1].tolist())))
    assert len(lost)
    assert not out[lost].any()
    out.sum().backward()
    assert edge_attr.grad.isfinite().all()


def test_head_without_kept_edges_of_a_node_has_finite_gradients():
    conv = PairAttentionConv(4, 4, 2, 2, pruning=Threshold(0.6, per_head=True, renormalize=True))
    conv.lin_score.weight.data = torch.eye(2)
    edge_attr = torch.tensor([[3.0, 0.0], [0.0, 0.0]], requires_grad=True)
    (1e5 * conv(torch.randn(3, 4), torch.tensor([[1, 2], [0, 0]]), edge_attr).sum()).backward()
    assert edge_attr.grad.isfinite().all()
    assert conv.lin_score.weight.grad.isfinite().all()


def test_kept_edges_of_tiny_weight_sum_to_one_before_the_softmax():
    conv = DifferentialAttentionConv(4, 4, 1, 2, beta=0.3, pruning=TopK(1, renormalize=True)).double()
    conv.lin_score.weight.data = torch.eye(2).double()
    edge_attr = torch.tensor([[0.0, 0.0], [-5.0, 2000.0]]).double()  # the second map of the survivor underflows
    edges = torch.tensor([[1, 2], [0, 0]])
    _, (_, alpha, ids) = conv(torch.randn(3, 4).double(), edges, edge_attr, return_attention_weights=True)
    assert ids.tolist() == [0]
    assert alpha.item() == pytest.approx(0.7)


def test_invalid_rules_are_refused_and_rules_are_printed():
    with pytest.raises(ValueError, match=r"pruning should be a rule, such as TopK\(8\), not 'top_k'"):
        PairAttentionConv(5, 6, 3, 7, pruning="top_k")
    shown = "PairAttentionConv(5, 6, heads=3, edge_dim=7, pruning=TopK(per_head=False, renormalize=False, k=2))"
    assert str(PairAttentionConv(5, 6, 3, 7, pruning=TopK(2))) == shown


def test_self_loops_are_kept_but_not_bipartite_edges_of_equal_index():
    _, pruned, x, _, _ = case(LAYERS["pair"], Threshold(minimum=0.9))
    edge_index = torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])
    edge_attr = torch.zeros(4, 7).double()
    _, (left, weights, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True)
    assert ids.tolist() == [0, 3]
    torch.testing.assert_close(weights, torch.tensor([[1 / 3] * 3, [1.0] * 3]).double())
    _, (left, _, ids) = pruned((x, x), edge_index, edge_attr, return_attention_weights=True)
    assert ids.tolist() == [3]
    assert left.tolist() == [[3], [1]]


def test_each_graph_of_a_batch_has_its_own_budget():
    _, pruned, x, _, _ = case(LAYERS["pair"], EdgeBudget(fraction=0.5))
    edge_index = torch.tensor([[1, 2, 0, 2, 5, 4, 3, 3], [0, 0, 1, 1, 4, 5, 4, 5]])
    edge_attr = torch.randn(8, 7).double() + 4 * torch.tensor([1.0] * 4 + [0.0] * 4).unsqueeze(1)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    _, (_, _, ids) = pruned(x, edge_index, edge_attr, return_attention_weights=True, batch=batch)
    assert (ids < 4).sum() == 2
    assert len(ids) == 4


@pytest.mark.parametrize("rule", [TopK(k=1), TopK(k=2, per_head=True), EdgeBudget(fraction=0.3), TopP(p=0.6)])
def test_edges_and_graphs_in_32_bits_keep_the_same_edges(rule):
    """In float32: other sorts would be used in float64."""
    _, pruned, x, edge_index, edge_attr = case(LAYERS["pair"], rule)
    batch = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1])
    within = batch[edge_index[0]] == batch[edge_index[1]]
    pruned, x, edge_index, edge_attr = pruned.float(), x.float(), edge_index[:, within], edge_attr[within].float()
    out, (kept, alpha, ids) = pruned(x, edge_index, edge_attr, True, batch)
    short, (short_kept, short_alpha, short_ids) = pruned(x, edge_index.int(), edge_attr, True, batch.int())
    assert 0 < len(ids) < within.sum()
    assert short_ids.tolist() == ids.tolist()
    assert short_kept.tolist() == kept.tolist()
    torch.testing.assert_close((short, short_alpha), (out, alpha), rtol=0, atol=0)


def test_batch_of_wrong_size_is_refused():
    _, pruned, x, edge_index, edge_attr = case(LAYERS["pair"], EdgeBudget(fraction=0.5))
    with pytest.raises(ValueError, match=r"batch has shape \[2\]: give the graph of each node, \[11\]"):
        pruned(x, edge_index, edge_attr, batch=torch.tensor([0, 1]))


@pytest.mark.parametrize("name", RULES)
def test_nan_is_not_hidden(name):
    rule = pruning_rule(name, 1 if name == "top_k" else 0.5)
    alpha = torch.tensor([[torch.nan, 0.4, torch.nan, 0.1]])
    source, target, graph = torch.tensor([1, 2, 0, 2]), torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    assert rule(alpha, graph_of(source, target, graph, 3, 1))[:, [0, 2]].all()
    # Unaffected nodes keep the same edges as without it.
    known = torch.tensor([[0.9, 0.2]])
    every = torch.cat([alpha, known], dim=1)
    others = [torch.tensor(nodes) for nodes in ([3, 4], [2, 2], [1, 1])]
    edges = map(torch.cat, zip((source, target, graph), others, strict=True))
    found = rule(every, graph_of(*edges, 5, 2))[:, 4:]
    assert torch.equal(found, rule(known, graph_of(*others, 5, 2)))


def test_graph_of_the_caller_is_unchanged():
    _, pruned, x, edge_index, edge_attr = case(LAYERS["differential"], TopK(k=1))
    before = edge_index.clone(), edge_attr.clone()
    pruned(x, edge_index, edge_attr)
    assert torch.equal(edge_index, before[0])
    assert torch.equal(edge_attr, before[1])


def test_tightness_acts_only_in_training():
    _, pruned, x, edge_index, edge_attr = case(LAYERS["differential"], TopK(k=1))
    pruned.tightness = 0.0

    def left():
        return pruned(x, edge_index, edge_attr, return_attention_weights=True)[1][2].numel()

    assert pruned.train()
    assert left() == edge_index.size(1)
    assert pruned.eval()
    assert left() < edge_index.size(1)
