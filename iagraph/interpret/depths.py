"""Predictions and representations at each depth of a model: logit lens, and mean vectors of jets."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iagraph.estimates import Array
from iagraph.graph import Graph
from iagraph.interpret.interventions import trace
from iagraph.interpret.recording import AttentionModel
from iagraph.jets import JetBatch
from iagraph.models import ParticleTransformer

INPUTS = "inputs"


class Depth(NamedTuple):
    """A depth of a model.

    Attributes:
        name: ``inputs`` for the scaled node features; ``0``, ``1``, ... after that many blocks; ``class 1``, ... after
            that many of ParT's class attention blocks.
        lens: logits of the model's own read-out at this depth, shape [jets, classes]; None for the inputs.
        vectors: mean vector of the particles or, after class attention, the class token; shape [jets, width].
    """

    name: str
    lens: Array | None
    vectors: Array


@torch.inference_mode()
def depths(model: AttentionModel, batches: Iterable[JetBatch]) -> list[Depth]:
    """Logit lens and vectors of jets at each depth.

    The lens is ``model.read_out(x, graph)`` of the particle vectors x at this depth; after the last block it is the
    logits. ParT reads out by class attention; after each of its blocks, the lens applies the final norm and linear map
    to the class token. The mean vector of an empty jet is zero.
    """
    names: list[str] = []
    lenses: list[list[Array]] = []
    vectors: list[list[Array]] = []
    for jets in batches:
        features = model.scale_particles(jets.node_features(model.node_features))
        stream, graph = trace(model, jets).x, jets.graph()
        found: list[tuple[str, Tensor | None, Tensor]] = [(INPUTS, None, graph.mean(features))]
        found += [(str(depth), model.read_out(x, graph), graph.mean(x)) for depth, x in enumerate(stream)]
        if isinstance(model, ParticleTransformer):
            for number, token in enumerate(_tokens(model, stream[-1], graph), start=1):
                found.append((f"class {number}", model.head(model.norm(token)), token))
        if not names:
            names, lenses, vectors = [name for name, *_ in found], [[] for _ in found], [[] for _ in found]
        for place, (_, lens, vector) in enumerate(found):
            vectors[place].append(_array(vector))
            if lens is not None:
                lenses[place].append(_array(lens))
    return [
        Depth(name, np.concatenate(lens) if lens else None, np.concatenate(vector))
        for name, lens, vector in zip(names, lenses, vectors, strict=True)
    ]


def _tokens(model: ParticleTransformer, x: Tensor, graph: Graph) -> list[Tensor]:
    tokens: list[Tensor] = []
    with ExitStack() as hooks:
        for block in model.class_blocks:
            hooks.enter_context(block.register_forward_hook(lambda _, given, output: tokens.append(output)))
        model.read_out(x, graph)
    return tokens


def _array(values: Tensor) -> Array:
    return values.cpu().numpy().astype(np.float64)
