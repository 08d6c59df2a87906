import torch

from iagraph.nn import PairAttentionConv

EDGES = torch.tensor([[0, 1, 2, 4, 3], [1, 1, 1, 0, 0]])  # no edge arrives at 2, 3, 4


def test_equation():
    torch.manual_seed(1)
    conv = PairAttentionConv(5, 6, 3, 7).double()
    x, edge_attr = torch.randn(5, 5).double(), torch.randn(5, 7).double()
    out, (_, alpha) = conv(x, EDGES, edge_attr, return_attention_weights=True)
    scores, value = edge_attr @ conv.lin_score.weight.t(), (x @ conv.lin_value.weight.t()).view(5, 3, 2)
    to_1, to_0 = scores[:3].softmax(0), scores[3:].softmax(0)
    torch.testing.assert_close(alpha, torch.cat([to_1, to_0]))
    sums = torch.zeros(5, 3, 2).double()
    sums[1] = sum(to_1[k].unsqueeze(1) * value[k] for k in range(3))
    sums[0] = to_0[0].unsqueeze(1) * value[4] + to_0[1].unsqueeze(1) * value[3]
    torch.testing.assert_close(out, sums.flatten(1) @ conv.lin_out.weight.t())
    assert repr(conv) == "PairAttentionConv(5, 6, heads=3, edge_dim=7)"
