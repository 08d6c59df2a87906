"""What equality with weaver in evaluation mode cannot show."""

import torch

from iagraph.models.particle_transformer import ClassAttentionBlock, ParticleTransformerBlock
from iagraph.topology import CompleteGraph


def test_dropout_stands_before_each_sum():
    block, x = ParticleTransformerBlock(6, 3, dropout=0.5).train(), torch.randn(7, 6)
    torch.nn.init.normal_(block.residual_scale)
    graph = CompleteGraph.from_ptr(torch.tensor([0, 4, 7]))
    block.dropout.p = 1.0  # nothing is added
    torch.testing.assert_close(block(x, graph, None), block.residual_scale * x)
    block.eval()
    assert (block(x, graph, None) - block.residual_scale * x).abs().max() > 0.1


def test_class_attention_drops_nothing():
    block = ClassAttentionBlock(6, 3).train()
    token, x, edges = torch.randn(2, 6), torch.randn(5, 6), torch.tensor([[0, 1, 2, 3, 4, 5, 6], [0, 1, 0, 0, 0, 1, 1]])
    torch.testing.assert_close(block(token, x, edges), block.eval()(token, x, edges))
