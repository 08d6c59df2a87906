"""Properties beyond equality with weaver in evaluation mode."""

import torch

from iagraph.graph import DenseGraph, SparseGraph
from iagraph.models.particle_transformer import ClassAttentionBlock, ParticleTransformerBlock


def test_dropout_precedes_each_residual_sum():
    block, x = ParticleTransformerBlock(6, 3, dropout=0.5).train(), torch.randn(7, 6)
    torch.nn.init.normal_(block.residual_scale)
    graph = DenseGraph(torch.tensor([0, 4, 7]))
    block.dropout.p = 1.0  # nothing is added
    torch.testing.assert_close(block(x, graph, None), block.residual_scale * x)
    block.eval()
    assert (block(x, graph, None) - block.residual_scale * x).abs().max() > 0.1


def test_class_attention_has_no_dropout():
    block = ClassAttentionBlock(6, 3).train()
    token, x, graph = torch.randn(2, 6), torch.randn(5, 6), SparseGraph.of_tokens(torch.tensor([0, 0, 0, 1, 1]), 2)
    torch.testing.assert_close(block(token, x, graph), block.eval()(token, x, graph))
