import math

import pytest
import torch
from torch.nn.functional import multi_head_attention_forward

from iagraph.graph import DenseGraph, fully_connected
from iagraph.nn import InteractionAttentionConv

EDGES = torch.tensor([[0, 1, 2, 4, 3], [1, 1, 1, 0, 0]])  # no edge arrives at 2, 3, 4


@pytest.mark.parametrize("edge_dim", [7, None])
def test_equation(edge_dim):
    torch.manual_seed(1)
    conv = InteractionAttentionConv(5, 6, 3, edge_dim, bias=True).double()
    x, edge_attr = torch.randn(5, 5).double(), torch.randn(5, edge_dim or 3).double()
    out, (_, alpha) = conv(x, EDGES, edge_attr, return_attention_weights=True)
    query, key, value = (lin(x).view(5, 3, 2) for lin in (conv.lin_query, conv.lin_key, conv.lin_value))
    bias = edge_attr if edge_dim is None else edge_attr @ conv.lin_score.weight.t()
    sums = torch.zeros(5, 3, 2).double()
    for target, edges in ((1, [0, 1, 2]), (0, [3, 4])):
        for head in range(3):
            terms = []
            for e in edges:
                product = sum(query[target, head, c] * key[EDGES[0, e], head, c] for c in range(2))
                terms.append((product / math.sqrt(2) + bias[e, head]).exp())
            for e, term in zip(edges, terms, strict=True):
                torch.testing.assert_close(alpha[e, head], term / sum(terms))
                sums[target, head] += term / sum(terms) * value[EDGES[0, e], head]
    torch.testing.assert_close(out, conv.lin_out(sums.flatten(1)))


def test_equals_the_attention_of_pytorch_on_a_complete_graph():
    torch.manual_seed(2)
    conv = InteractionAttentionConv(6, 6, 3, bias=True).double()
    x = torch.randn(11, 6).double()
    linears = (conv.lin_query, conv.lin_key, conv.lin_value)
    expected, _ = multi_head_attention_forward(
        x, x, x, 6, 3,
        torch.cat([lin.weight for lin in linears]), torch.cat([lin.bias for lin in linears]),
        None, None, False, 0.0, conv.lin_out.weight, conv.lin_out.bias, need_weights=False,
    )  # fmt: skip
    ptr = torch.tensor([0, 11])
    torch.testing.assert_close(conv(x, fully_connected(ptr)), expected)
    torch.testing.assert_close(conv.attend(x, DenseGraph(ptr)).x, expected)


def test_separate_targets_attend_to_sources():
    torch.manual_seed(3)
    conv = InteractionAttentionConv(5, 6, 3).double()
    source, target = torch.randn(4, 5).double(), torch.randn(2, 5).double()
    edges = torch.tensor([[0, 3, 1], [1, 1, 0]])
    # The same as one graph of all six nodes.
    shifted = torch.stack([edges[0] + 2, edges[1]])
    expected = conv(torch.cat([target, source]), shifted)[:2]
    torch.testing.assert_close(conv((source, target), edges), expected)
    with pytest.raises(ValueError, match=r"give x = \(source, target\)"):
        conv((source, None), edges)


def test_missing_edge_features_and_wrong_biases_are_refused():
    x, complete = torch.randn(5, 5), DenseGraph(torch.tensor([0, 5]))
    needs = InteractionAttentionConv(5, 6, 3, edge_dim=7)
    for run in (lambda: needs(x, EDGES), lambda: needs.attend(x, complete)):
        with pytest.raises(ValueError, match=r"has an edge_dim \(7\): give edge_attr"):
            run()
    for edge_attr in (torch.randn(5), torch.randn(5, 1), torch.randn(5, 7)):
        with pytest.raises(ValueError, match=r"without edge_dim it holds the biases themselves, \[edges, 3\]"):
            InteractionAttentionConv(5, 6, 3)(x, EDGES, edge_attr)


def test_dropout_scales_kept_weights_only_in_training():
    torch.manual_seed(4)
    conv = InteractionAttentionConv(5, 6, 3, dropout=0.25)
    x, edges = torch.randn(60, 5), fully_connected(torch.tensor([0, 60]))
    _, (_, alpha) = conv(x, edges, return_attention_weights=True)
    _, (_, kept) = conv.eval()(x, edges, return_attention_weights=True)
    dropped = alpha == 0
    assert 0.22 < dropped.float().mean() < 0.28
    torch.testing.assert_close(alpha[~dropped], kept[~dropped] / 0.75)
    torch.testing.assert_close(kept.view(60, 60, 3).sum(1), torch.ones(60, 3))
