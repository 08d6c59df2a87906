"""Parts of the attention scores set to zero without retraining, to see what a trained model depends on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from iagraph.graph import Graph
from iagraph.graph.protocol import Scores
from iagraph.interpret.recording import Attend, AttentionModel, attending
from iagraph.nn import AttentionConv, InteractionAttentionConv, SoftmaxDifference
from iagraph.nn.attention_conv import AttentionOutput

Zeroing = Callable[[AttentionModel], AbstractContextManager[None]]


def zero_pairs(model: AttentionModel) -> AbstractContextManager[None]:
    r"""Context in which all scores from pairs are zero: :math:`U_{ij} = 0` in every layer.

    Attention without queries and keys is then uniform. A gate still chooses edges. In ParT this equals setting all
    weights of the pair encoder to zero (arXiv 2512.00210). To record the result, start recording first:
    ``with recorded(model) as layers, zero_pairs(model):``.
    """

    def without(conv: AttentionConv, attend: Attend) -> Attend:
        def run(x: Tensor, graph: Graph, scores: Scores | None = None) -> AttentionOutput:
            zeros = [x.new_zeros(conv.maps, pairs) for pairs in graph.pair_counts]
            return attend(x, graph, None if scores is None else graph.scores(zeros))

        return run

    return attending(model, without)


def zero_content(model: AttentionModel) -> AbstractContextManager[None]:
    """Context in which queries, and so all scores from queries and keys, are zero: A = 0."""
    linears = [conv.lin_query for conv in model.convs() if isinstance(conv, InteractionAttentionConv)]
    return _filled([parameter for linear in linears for parameter in linear.parameters()], 0.0)


def zero_beta(model: AttentionModel) -> AbstractContextManager[None]:
    """Context in which differential attention uses only its first maps: beta = 0."""
    convs = [conv for conv in model.convs() if isinstance(conv, SoftmaxDifference)]
    return _filled([conv.theta for conv in convs], -math.inf)


@contextmanager
def zero_both(model: AttentionModel) -> Iterator[None]:
    """Context in which all scores are zero, so that attention is uniform over all edges."""
    with zero_pairs(model), zero_content(model):
        yield


def zeroings(model: AttentionModel) -> dict[str, Zeroing]:
    """Zeroings that apply to a model, by their name in tables.

    ``U = 0`` and ``A = 0`` for a model with both kinds of scores, ``beta = 0`` for differential attention;
    always ``even attention``.
    """
    convs, found = model.convs(), dict[str, Zeroing]()
    if has_content(convs) and has_pairs(model):
        found |= {"U = 0": zero_pairs, "A = 0": zero_content}
    if any(isinstance(conv, SoftmaxDifference) for conv in convs):
        found["beta = 0"] = zero_beta
    return found | {"even attention": zero_both}


def has_content(convs: list[AttentionConv]) -> bool:
    """Whether some scores come from queries and keys."""
    return any(isinstance(conv, InteractionAttentionConv) for conv in convs)


def has_pairs(model: AttentionModel) -> bool:
    """Whether some scores come from pairs."""
    return any(getattr(model, name, None) is not None for name in ("pair_features", "pair_encoder"))


@contextmanager
def _filled(parameters: list[torch.nn.Parameter], value: float) -> Iterator[None]:
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            parameter.fill_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, before, strict=True):
                parameter.copy_(values)
