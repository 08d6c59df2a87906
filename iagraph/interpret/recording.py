"""What the attention layers of a model do with jets: scores before the softmax, maps after it, weights that count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
"""Models whose particles attend to one another: they have ``convs()`` and ``read_out(x, graph)``."""


Attend: TypeAlias = Callable[..., AttentionOutput]
"""As :meth:`iagraph.nn.AttentionConv.attend`."""


class LayerAttention(NamedTuple):
    r"""What an attention layer does with the edges of some jets, all of a complete graph in the order of
    :func:`~iagraph.graph.fully_connected` unless something drops some.

    Attributes:
        edge_index: edges between particles of a jet, rows (source, target), sorted by target, shape [2, edges].
        alpha: their weights, signed where the layer subtracts, shape [edges, heads].
        maps: the softmax maps of which these are made, over all edges that the layer sees; shape [edges, maps]. One map
            per head, or two, all first ones before all second ones.
        content: scores from queries and keys, :math:`q_i \cdot k_j / \sqrt{d}`, shape [edges, maps]; None of a layer
            that has none.
        pair: scores from what is known of pairs, in ParT the bias :math:`U_{ij}`; shape [edges, maps], or None.
    """

    edge_index: Tensor
    alpha: Tensor
    maps: Tensor
    content: Tensor | None
    pair: Tensor | None


class Recording(NamedTuple):
    """What a model makes of jets.

    Attributes:
        logits: shape [jets, classes].
        layers: its attention layers among particles, first block first.
    """

    logits: Tensor
    layers: list[LayerAttention]


def record_attention(model: AttentionModel, jets: JetBatch) -> Recording:
    """Runs a model on all edges of jets and notes what its attention does."""
    with recorded(model) as layers:
        logits = model(jets, fully_connected(jets.ptr))
    return Recording(logits, layers)


@contextmanager
def recorded(model: AttentionModel) -> Iterator[list[LayerAttention]]:
    """Within it, each attention layer that runs on a list of edges adds what it does to the list."""
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
    """Within it, each attention layer has another ``attend``, made of the layer and the one that it has.

    PyTorch's own hooks see ``forward`` alone, to which graphs with scores do not go.
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
            if attend is not None:  # one within another
                setattr(conv, "attend", attend)  # noqa: B010


def _layer(
    conv: AttentionConv, x: Tensor, graph: SparseGraph, scores: Tensor | None, output: AttentionOutput
) -> LayerAttention:
    assert isinstance(graph, SparseGraph), "complete graphs in dense blocks hold no weights of edges"
    assert output.alpha is not None
    content = None
    if isinstance(conv, InteractionAttentionConv):
        content = conv.scores(x, x, graph, None if scores is None else torch.zeros_like(scores))
        total = content if scores is None else content + scores  # the products, most of the work, are made once
    else:
        total = conv.scores(x, x, graph, scores)
    kept = torch.searchsorted(graph.edge_ids, output.graph.edge_ids)  # both ascend

    def of_kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.t()[kept]

    maps = graph.softmax(total).t()[kept]
    return LayerAttention(output.graph.edge_index, output.alpha.t(), maps, of_kept(content), of_kept(scores))


def node_vectors(model: AttentionModel, jets: JetBatch) -> list[Tensor]:
    """The vectors of particles before the first block and after each one: the residual stream.

    Returns:
        Tensors of shape [particles, width], one more than there are blocks.
    """
    vectors: list[Tensor] = []

    def note(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: AttentionOutput | Tensor) -> None:
        if not vectors:
            vectors.append(inputs[0])
        vectors.append(output.x if isinstance(output, AttentionOutput) else output)

    with ExitStack() as hooks:
        for block in model.blocks:
            hooks.enter_context(block.register_forward_hook(note))
        model(jets)
    return vectors
