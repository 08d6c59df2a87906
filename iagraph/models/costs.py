"""The cost of a model on given jets: multiply-adds, and the edges that each layer keeps."""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from iagraph.graph import SparseGraph
from iagraph.jets import JetBatch
from iagraph.models.attention_network import AttentionBlock
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.nn import InteractionAttentionConv, SoftmaxDifference
from iagraph.nn.attention_conv import AttentionOutput


class LayerCost(NamedTuple):
    """The edges that a layer keeps.

    Attributes:
        edges: number of kept edges of each jet, self-edges included; shape [jets].
        edges_of_head: number of these edges with non-zero weight in each head, shape [jets, heads].
        beta: the layer's beta, shape [1] or [heads]; None if the layer has none.
    """

    edges: Tensor
    edges_of_head: Tensor
    beta: Tensor | None


class Cost(NamedTuple):
    """The cost of a model on given jets.

    Attributes:
        all_edges: number of edges of the complete graph of each jet, shape [jets].
        layers: the edges that each layer keeps.
        multiply_adds: number of multiply-adds for all jets together.
    """

    all_edges: Tensor
    layers: list[LayerCost]
    multiply_adds: float

    @property
    def kept(self) -> list[float]:
        """The fraction of all edges that each layer keeps; 0 without edges."""
        return [int(layer.edges.sum()) / max(int(self.all_edges.sum()), 1) for layer in self.layers]


@torch.no_grad()
def cost(model: AttentionTagger, jets: JetBatch) -> Cost:
    """The edges that each layer keeps, and the multiply-adds of the whole model, in evaluation mode.

    Args:
        model: the model; not changed.
        jets: the jets.
    """
    model = copy.deepcopy(model).eval()
    jets = jets.to(next(model.parameters()).device)
    _, weights = model(jets, return_attention_weights=True)
    layers = []
    for (edges, alpha, _), conv in zip(weights, model.convs(), strict=True):
        jet = jets.batch.index_select(0, edges[1])
        of_head = jet.new_zeros(len(jets), alpha.size(1)).index_add(0, jet, (alpha != 0).long())
        beta = conv.beta.detach() if isinstance(conv, SoftmaxDifference) else None
        layers.append(LayerCost(torch.bincount(jet, minlength=len(jets)), of_head, beta))
    return Cost(jets.ptr.diff().square(), layers, multiply_adds(model, jets))


def multiply_adds(model: nn.Module, jets: JetBatch) -> float:
    """Number of multiply-adds of a model on one batch of jets, in evaluation mode.

    Matrix products are counted as they are computed, including the small padding of dense blocks; products and sums
    along lists of edges are added. Elementwise functions are not counted.

    Args:
        model: the model; not changed.
        jets: the jets.
    """
    # A copy: in training mode, norms would update their statistics, and the counter fails on expanded parameters.
    model = copy.deepcopy(model).eval().requires_grad_(False)
    along_edges = 0

    def count(module: AttentionBlock, inputs: tuple[Any, ...], output: AttentionOutput) -> None:
        nonlocal along_edges
        graph, kept = inputs[1], output.graph
        if isinstance(kept, SparseGraph):
            along_edges += module.conv.out_channels * kept.edge_index.size(1)
            if isinstance(module.conv, InteractionAttentionConv):  # queries times keys
                along_edges += module.conv.out_channels * graph.edge_index.size(1)

    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad(), ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, AttentionBlock):
                stack.callback(module.register_forward_hook(count).remove)
        model(jets.to(device))
    return counter.get_total_flops() / 2 + along_edges
