r"""What a model would say if single heads had said something else: runs of its blocks with changes, from recorded ones.

What a head adds to a particle is :math:`\mathbf{W}_o^{(h)} \mathbf{s}^{(h)}` with its weighed sum of values
:math:`\mathbf{s}^{(h)}_i = \sum_j \alpha^{(h)}_{ij} \mathbf{W}_v^{(h)} \mathbf{x}_j`. The sums of all heads, one after
another, are what the layer's ``lin_out`` takes; they are changed there, so that a bias of ``lin_out`` (ParT has one)
stays. With differential attention the sum is that of a head's first map minus beta times that of its second.

Pairs are encoded once for all changes of a batch. That is exact: the scores of pairs do not depend on the blocks, and
the edges that models drop are chosen by scores of pairs alone.
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
        name: its number among the layers of particles, from 1, or ``class`` and its number among ParT's layers of class
            attention.
        conv: the layer.
        depth: the block in which it is, from 0; layers of class attention stand behind all of them.
    """

    name: str
    conv: AttentionConv
    depth: int

    @property
    def of_jets(self) -> bool:
        """It changes a vector per jet, not one per particle."""
        return self.name.startswith("class")


class Head(NamedTuple):
    """A head: the place of its layer in :func:`sites`, and its number within, both from 0."""

    site: int
    head: int


Changes = Mapping[Head, Tensor]
"""What stands in the place of the sums of heads: broadcast to [particles, channels of a head], or [jets, channels]."""


def sites(model: AttentionModel) -> list[Site]:
    """The attention layers of a model in their order, those of class attention last."""
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
    """What a model did with some jets.

    Attributes:
        jets: the jets.
        inputs: what each block took: vectors of particles, graph, scores.
        x: the vectors of particles before each block and after the last one, each [particles, width].
        sums: the sums of heads at each site, shape [particles, width] or [jets, width].
        logits: shape [jets, classes].
    """

    jets: JetBatch
    inputs: list[tuple[Any, ...]]
    x: list[Tensor]
    sums: list[Tensor]
    logits: Tensor


def trace(model: AttentionModel, jets: JetBatch) -> Trace:
    """Runs a model and notes what it does."""
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
    """Logits of a model that resumes at a block, shape [jets, classes].

    Args:
        model: the model.
        recorded: what it did with the jets.
        depth: the block to begin with, from 0; with the number of blocks only the read-out runs.
        x: vectors of the particles before it, shape [particles, width]; None for those recorded.
    """
    x = recorded.x[depth] if x is None else x
    for block, (_, *rest) in zip(model.blocks[depth:], recorded.inputs[depth:], strict=True):
        x = _vectors(block(x, *rest))
    _, graph, *_ = recorded.inputs[0]
    return model.read_out(x, graph)


def run_changed(model: AttentionModel, recorded: Trace, changes: Changes) -> Tensor:
    """Logits of a model in which heads say something else, shape [jets, classes].

    Args:
        model: the model.
        recorded: what it did with the jets; only what follows the first change runs again.
        changes: the sums of heads by head; layers behind see what follows from them.
    """
    if not changes:
        return recorded.logits
    first = min(sites(model)[head.site].depth for head in changes)
    with changed(model, changes):
        return resume(model, recorded, first)


@contextmanager
def changed(model: AttentionModel, changes: Changes) -> Iterator[None]:
    """Within it, heads of the model say something else."""
    with ExitStack() as hooks:
        for place, site in enumerate(sites(model)):
            mine = {head.head: value for head, value in changes.items() if head.site == place}
            if mine:
                hooks.enter_context(site.conv.lin_out.register_forward_pre_hook(_replace(site.conv, mine)))
        yield


def of_head(conv: AttentionConv, sums: Tensor, head: int) -> Tensor:
    """The part of a head of the sums of a layer, whose last dimension is the width."""
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
