"""Recording of attention layers: scores before the softmax, maps after it, and final weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from iagraph.graph import SparseGraph, fully_connected
from iagraph.graph.protocol import Scores
from iagraph.jets import JetBatch
from iagraph.models import ParticleTransformer
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.nn import AttentionConv, InteractionAttentionConv
from iagraph.nn.attention_conv import AttentionOutput

AttentionModel: TypeAlias = AttentionTagger | ParticleTransformer
"""Models with attention among particles: they have ``convs()`` and ``read_out(x, graph)``."""

Attend: TypeAlias = Callable[..., AttentionOutput]
"""Type of :meth:`iagraph.nn.AttentionConv.attend`."""


class LayerAttention(NamedTuple):
    r"""Recorded attention of a layer on the edges of jets.

    Without pruning these are all edges in the order of :func:`~iagraph.graph.fully_connected`.

    Attributes:
        edge_index: edges within jets, rows (source, target), sorted by target, shape [2, edges].
        alpha: final weights, signed in differential attention, shape [edges, heads].
        maps: softmax maps, normalised over all edges that the layer sees, shape [edges, maps]: one per head or,
            in differential attention, two, with all first maps before all second ones.
        content: scores from queries and keys, :math:`q_i \cdot k_j / \sqrt{d}`, shape [edges, maps]; None if
            there are none.
        pair: scores from pairs, in ParT the bias :math:`U_{ij}`; shape [edges, maps]; None if there are none.
    """

    edge_index: Tensor
    alpha: Tensor
    maps: Tensor
    content: Tensor | None
    pair: Tensor | None


class Recording(NamedTuple):
    """Recorded run of a model.

    Attributes:
        logits: shape [jets, classes].
        layers: its attention layers among particles, in order.
    """

    logits: Tensor
    layers: list[LayerAttention]


def record_attention(model: AttentionModel, jets: JetBatch) -> Recording:
    """Run a model on all edges of jets and record its attention."""
    with recorded(model) as layers:
        logits = model(jets, fully_connected(jets.ptr))
    return Recording(logits, layers)


@contextmanager
def recorded(model: AttentionModel) -> Iterator[list[LayerAttention]]:
    """Context in which each attention layer that runs on a list of edges appends its record to the yielded list."""
    layers: list[LayerAttention] = []

    def watched(conv: AttentionConv, attend: Attend) -> Attend:
        def watch(x: Tensor, graph: SparseGraph, scores: Scores | None = None) -> AttentionOutput:
            output = attend(x, graph, scores)
            layers.append(_layer(conv, x, graph, scores, output))
            return output

        return watch

    with attending(model, watched):
        yield layers


@contextmanager
def attending(model: AttentionModel, changed: Callable[[AttentionConv, Attend], Attend]) -> Iterator[None]:
    """Context in which ``changed(layer, attend)`` replaces the ``attend`` of each attention layer.

    PyTorch's hooks see only calls of ``forward``, but blocks call ``attend`` directly.
    """
    convs = model.convs()
    before = [vars(conv).get("attend") for conv in convs]
    for conv in convs:
        setattr(conv, "attend", changed(conv, conv.attend))  # noqa: B010, a method for mypy
    try:
        yield
    finally:
        for conv, attend in zip(convs, before, strict=True):
            delattr(conv, "attend")
            if attend is not None:  # nested contexts
                setattr(conv, "attend", attend)  # noqa: B010


def _layer(
    conv: AttentionConv, x: Tensor, graph: SparseGraph, scores: Tensor | None, output: AttentionOutput
) -> LayerAttention:
    assert isinstance(graph, SparseGraph), "complete graphs in dense blocks hold no weights of edges"
    assert output.alpha is not None
    content = None
    if isinstance(conv, InteractionAttentionConv):
        content = conv.scores(x, x, graph, None if scores is None else torch.zeros_like(scores))
        total = content if scores is None else content + scores  # computes the products, most of the work, only once
    else:
        total = conv.scores(x, x, graph, scores)
    kept = torch.searchsorted(graph.edge_ids, output.graph.edge_ids)  # both ascend

    def of_kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.t()[kept]

    maps = graph.softmax(total).t()[kept]
    return LayerAttention(output.graph.edge_index, output.alpha.t(), maps, of_kept(content), of_kept(scores))
