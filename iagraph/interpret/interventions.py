r"""Interventions: logits of a model with changed outputs of single heads, from recorded runs.

A head adds :math:`\mathbf{W}_o^{(h)} \mathbf{s}^{(h)}_i` to particle i, with its weighted sum of values
:math:`\mathbf{s}^{(h)}_i = \sum_j \alpha^{(h)}_{ij} \mathbf{W}_v^{(h)} \mathbf{x}_j`. The concatenated sums of heads
are the input of the layer's ``lin_out``; they are changed there, so a bias of ``lin_out`` (as in ParT) is kept. In
differential attention, :math:`\mathbf{s}^{(h)}` is the sum with the first map minus beta times that with the second.

Pairs are encoded once for all changes of a batch. This is exact: pair scores do not depend on the blocks, and models
choose the edges to drop by pair scores alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from iagraph.interpret.recording import AttentionModel
from iagraph.jets import JetBatch
from iagraph.models import ParticleTransformer
from iagraph.nn import AttentionConv
from iagraph.nn.attention_conv import AttentionOutput


class Site(NamedTuple):
    """An attention layer.

    Attributes:
        name: ``1``, ``2``, ... for layers among particles; ``class 1``, ... for ParT's layers of class attention.
        conv: the layer.
        depth: index of its block, from 0; for class attention, the number of blocks among particles.
    """

    name: str
    conv: AttentionConv
    depth: int

    @property
    def of_jets(self) -> bool:
        """Whether it updates one vector per jet rather than one per particle."""
        return self.name.startswith("class")


class Head(NamedTuple):
    """A head: the index of its layer in :func:`sites`, and its index within the layer."""

    site: int
    head: int


Changes = Mapping[Head, Tensor]
"""New weighted sums by head, broadcast to [particles, channels of a head] or [jets, channels of a head]."""


def sites(model: AttentionModel) -> list[Site]:
    """The attention layers of a model in order, class attention last."""
    found = [Site(str(depth + 1), conv, depth) for depth, conv in enumerate(model.convs())]
    if isinstance(model, ParticleTransformer):
        convs = [module for module in model.class_blocks.modules() if isinstance(module, AttentionConv)]
        found += [Site(f"class {number}", conv, len(model.blocks)) for number, conv in enumerate(convs, start=1)]
    return found


def heads(model: AttentionModel) -> list[Head]:
    """All heads of a model, layer by layer."""
    return [Head(place, head) for place, site in enumerate(sites(model)) for head in range(site.conv.heads)]


@dataclass
class Trace:
    """A recorded run of a model.

    Attributes:
        jets: the jets.
        inputs: arguments of each block, namely particle vectors, graph and scores.
        x: particle vectors before each block and after the last one, each of shape [particles, width].
        sums: concatenated weighted sums of all heads at each site, the input of ``lin_out``; shape [particles, width]
            or [jets, width].
        logits: shape [jets, classes].
    """

    jets: JetBatch
    inputs: list[tuple[Any, ...]]
    x: list[Tensor]
    sums: list[Tensor]
    logits: Tensor


def trace(model: AttentionModel, jets: JetBatch) -> Trace:
    """Run a model and record it."""
    inputs: list[tuple[Any, ...]] = []
    sums: list[Tensor] = []
    after: list[Tensor] = []
    with ExitStack() as hooks:
        for block in model.blocks:
            hooks.enter_context(block.register_forward_pre_hook(lambda _, given: inputs.append(given)))
        last = model.blocks[-1]
        hooks.enter_context(last.register_forward_hook(lambda _, given, output: after.append(_vectors(output))))
        for site in sites(model):
            hooks.enter_context(site.conv.lin_out.register_forward_pre_hook(lambda _, given: sums.append(given[0])))
        logits = model(jets)
    return Trace(jets, inputs, [*(given[0] for given in inputs), *after], sums, logits)


def resume(model: AttentionModel, recorded: Trace, depth: int, x: Tensor | None = None) -> Tensor:
    """Logits of a model whose recorded run is resumed at a block, shape [jets, classes].

    Args:
        model: the model.
        recorded: its recorded run.
        depth: index of the first block to run; if it is the number of blocks, only the read-out runs.
        x: particle vectors before that block, shape [particles, width]; None for the recorded ones.
    """
    x = recorded.x[depth] if x is None else x
    for block, (_, *rest) in zip(model.blocks[depth:], recorded.inputs[depth:], strict=True):
        x = _vectors(block(x, *rest))
    _, graph, *_ = recorded.inputs[0]
    return model.read_out(x, graph)


def run_changed(model: AttentionModel, recorded: Trace, changes: Changes) -> Tensor:
    """Logits of a model with changed sums of heads, shape [jets, classes].

    Args:
        model: the model.
        recorded: its recorded run; only blocks from the first changed layer onwards run again.
        changes: new sums by head, with effects on all later layers.
    """
    if not changes:
        return recorded.logits
    first = min(sites(model)[head.site].depth for head in changes)
    with changed(model, changes):
        return resume(model, recorded, first)


@contextmanager
def changed(model: AttentionModel, changes: Changes) -> Iterator[None]:
    """Context in which the given weighted sums replace those of their heads."""
    with ExitStack() as hooks:
        for place, site in enumerate(sites(model)):
            mine = {head.head: value for head, value in changes.items() if head.site == place}
            if mine:
                hooks.enter_context(site.conv.lin_out.register_forward_pre_hook(_replace(site.conv, mine)))
        yield


def of_head(conv: AttentionConv, sums: Tensor, head: int) -> Tensor:
    """One head's slice, shape [..., channels], of a layer's sums, shape [..., width]."""
    return sums.unflatten(-1, (conv.heads, -1))[..., head, :]


def _replace(conv: AttentionConv, values: Mapping[int, Tensor]) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    def hook(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
        sums = given[0].clone()
        for head, value in values.items():
            of_head(conv, sums, head).copy_(value.expand_as(of_head(conv, sums, head)))
        return (sums,)

    return hook


def _vectors(output: AttentionOutput | Tensor) -> Tensor:
    return output.x if isinstance(output, AttentionOutput) else output
