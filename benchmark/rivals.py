"""Other implementations of IAFormer with our weights and logits, for comparison: padded, as in its authors' code, and
as message passing along an edge list, as is usual in PyTorch Geometric. Neither uses our dense blocks.

The networks take precomputed features; a function beside each computes them from jets.
"""

from __future__ import annotations

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import MessagePassing, global_mean_pool
from torch_geometric.transforms import Compose
from torch_geometric.utils import softmax, to_dense_adj, to_dense_batch

from iagraph.graph import fully_connected
from iagraph.jets import JetBatch
from iagraph.models import IAFormer
from iagraph.models.attention_network import AttentionBlock
from iagraph.models.attention_tagger import FixedPairs
from iagraph.nn import DifferentialAttentionConv
from iagraph.transforms import FullyConnected, NodeFeatures, PairFeatures


class PaddedIAFormer(nn.Module):
    """IAFormer in the layout of its authors' code: every jet has the same number of slots, and everything is computed
    for all slots and all ordered pairs of slots.

    Unlike in the authors' code, padding is masked in the softmax, the read-out is the mean over particles, and beta is
    ours, so the logits equal those of our model.

    Args:
        model: the model whose weights are copied.
    """

    def __init__(self, model: IAFormer) -> None:
        super().__init__()
        self.particle_encoder = nn.Sequential(_plain(model.particle_encoder), deepcopy(model.particle_encoder[-1]))
        self.pair_encoder = _plain(model.pair_encoder)
        self.blocks = deepcopy(model.blocks)
        self.head = deepcopy(model.head)

    def forward(self, particles: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        """Logits, shape [jets, num_classes], from the results of :func:`padded_inputs`."""
        x = self.particle_encoder(particles)
        pairs = self.pair_encoder(pairs)
        for block in cast(list[AttentionBlock], self.blocks):
            x = x + block.norm_out(_padded_attention(_conv(block), block.norm_in(x), pairs, mask))
            x = x + block.feed_forward(x)
        real = mask.unsqueeze(2)
        mean = torch.where(real, x, 0).sum(1) / real.sum(1).clamp(min=1)
        return self.head(mean)


def _padded_attention(conv: DifferentialAttentionConv, x: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
    """Differential attention of all slots to those that hold a particle, shape [jets, slots, width]."""
    scores = cast(nn.Linear, conv.lin_score)(pairs).permute(0, 3, 1, 2)  # [jets, maps, targets, sources]
    scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
    first, second = scores.chunk(2, dim=1)
    alpha = first.softmax(-1) - conv.beta.view(-1, 1, 1) * second.softmax(-1)
    values = conv.lin_value(x).unflatten(2, (conv.heads, -1)).transpose(1, 2)
    return conv.lin_out((alpha @ values).transpose(1, 2).flatten(2))


def padded_inputs(model: IAFormer, jets: JetBatch, slots: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of :class:`PaddedIAFormer`, with precomputed pair features, as in the files of its authors.

    Returns:
        Scaled node features, shape [jets, slots, features], scaled pair features, shape [jets, slots, slots, features],
        both zero in padding, and a mask of real particles, shape [jets, slots].

    Raises:
        ValueError: a jet has more particles than slots.
    """
    particles, mask = padded(model.scale_particles(jets.node_features(model.node_features)), jets, slots)
    source, target = fully_connected(jets.ptr)
    features = cast(FixedPairs, model.pair_inputs).scale(jets.edge_features(model.pair_features, source, target).t())
    return particles, to_dense_adj(torch.stack([target, source]), jets.batch, features, slots, len(jets)), mask


class EdgeListIAFormer(nn.Module):
    """IAFormer as is usual in PyTorch Geometric: each block is one ``MessagePassing`` over the directed edges and
    encodes their features again, with weights that all blocks share.

    Args:
        model: the model whose weights are copied.
    """

    def __init__(self, model: IAFormer) -> None:
        super().__init__()
        self.particle_encoder = nn.Sequential(_plain(model.particle_encoder), deepcopy(model.particle_encoder[-1]))
        pair_encoder = _plain(model.pair_encoder)
        self.blocks = deepcopy(model.blocks)
        blocks = cast(list[AttentionBlock], self.blocks)
        self.convs = nn.ModuleList(_EdgeListConv(_conv(block), pair_encoder) for block in blocks)
        self.head = deepcopy(model.head)

    def forward(self, data: Batch) -> Tensor:
        """Logits, shape [jets, num_classes], from the results of :func:`edge_list_inputs`."""
        x = self.particle_encoder(data.x)
        for block, conv in zip(cast(list[AttentionBlock], self.blocks), self.convs, strict=True):
            x = x + block.norm_out(conv(block.norm_in(x), data.edge_index, data.edge_attr))
            x = x + block.feed_forward(x)
        return self.head(global_mean_pool(x, data.batch, data.num_graphs))


class _EdgeListConv(MessagePassing):
    """Differential attention along edges, with an encoder of their features.

    Args:
        conv: the layer whose linear maps are used.
        encoder: the encoder of the edge features.
    """

    def __init__(self, conv: DifferentialAttentionConv, encoder: nn.Module) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.conv, self.encoder = conv, encoder

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """New node vectors, shape [nodes, width]."""
        scores = cast(nn.Linear, self.conv.lin_score)(self.encoder(edge_attr))
        value = self.conv.lin_value(x).unflatten(1, (self.conv.heads, -1))
        return self.conv.lin_out(self.propagate(edge_index, value=value, scores=scores).flatten(1))

    def message(self, value_j: Tensor, scores: Tensor, index: Tensor, ptr: Tensor | None, size_i: int) -> Tensor:
        """The value of the source, weighted by attention."""
        first, second = softmax(scores, index, ptr, size_i).chunk(2, dim=1)
        return (first - self.conv.beta * second).unsqueeze(2) * value_j


def edge_list_inputs(model: IAFormer, jets: JetBatch) -> tuple[Batch]:
    """Inputs of :class:`EdgeListIAFormer`: all directed edges, with scaled features."""
    transform = Compose([FullyConnected(), NodeFeatures(model.node_features), PairFeatures(model.pair_features)])
    data = transform(Batch.from_data_list(jets.to_data_list()))
    data.x, data.edge_attr = model.scale_particles(data.x), cast(FixedPairs, model.pair_inputs).scale(data.edge_attr)
    return (data,)


def _plain(encoder: nn.Module) -> nn.Sequential:
    """The linear maps of an encoder, each followed by GELU, built from PyTorch's own modules."""
    layers: list[nn.Module] = []
    for linear in (module for module in encoder.modules() if isinstance(module, nn.Linear)):
        plain = nn.Linear(linear.in_features, linear.out_features, dtype=linear.weight.dtype)
        plain.load_state_dict(linear.state_dict())
        layers += [plain, nn.GELU()]
    return nn.Sequential(*layers)


def _conv(block: AttentionBlock) -> DifferentialAttentionConv:
    return cast(DifferentialAttentionConv, block.conv)


def padded(values: Tensor, jets: JetBatch, slots: int) -> tuple[Tensor, Tensor]:
    """Values of particles, shape [particles, channels], in slots, shape [jets, slots, channels], zero in padding, and a
    mask of real particles, shape [jets, slots].

    Raises:
        ValueError: a jet has more particles than slots.
    """
    largest = int(jets.ptr.diff().max())
    if largest > slots:
        raise ValueError(f"a jet has {largest} particles and there are {slots} slots: give more, or drop particles")
    return to_dense_batch(values, jets.batch, max_num_nodes=slots, batch_size=len(jets))
