"""Importance of single pair features, each replaced by a typical value or shuffled among the pairs of a jet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from iagraph.estimates import Array
from iagraph.interpret.recording import AttentionModel
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES
from iagraph.models import ParticleTransformer
from iagraph.models.attention_tagger import FixedPairs
from iagraph.models.gated_iaformer import GatedPairs
from iagraph.nn import BatchNorm

VARIANTS = ("typical", "shuffled")
"""``typical``: the value that the model scales to zero (the centre of its fixed scaling or, in ParT, the running mean
of the batch norm). ``shuffled``: values permuted among the pairs of a jet, self-pairs among themselves, so that they
remain recognisable."""

SEED = 1

Edit = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Function from features [pairs, features] and the two particles of each pair to new features."""


class PairInput(NamedTuple):
    """A place where a model reads pair features.

    Attributes:
        part: the part of the model that reads them.
        names: names of the features in order; ``is_self`` marks self-pairs.
        typical: value of each feature in the variant ``typical``, shape [features].
        hook: function of jets and an edit; registers the edit for the features that this part reads and
            returns a handle to remove it.
    """

    part: str
    names: Sequence[str]
    typical: Tensor
    hook: Callable[[JetBatch, Edit], Any]


def pair_inputs(model: AttentionModel) -> list[PairInput]:
    """Places where a model reads pair features; empty if it has no named pair features.

    A model with a gate reads them twice: those of all pairs in the gate, which chooses pairs, and those of the chosen
    pairs in the encoder. The result has an entry for each of the two, and one for both together.
    """
    if isinstance(model, ParticleTransformer):
        if model.pair_encoder is None:
            return []
        encoder, norm = model.pair_encoder, cast(BatchNorm, model.pair_encoder[0])

        def hook(jets: JetBatch, edit: Edit) -> Any:
            graph = jets.graph()  # its order of pairs depends on the jets alone
            return encoder.register_forward_pre_hook(lambda _, given: (edit(given[0], graph.first, graph.second),))

        return [PairInput("encoder", PAIR_FEATURES[str(model.pair_features)], cast(Tensor, norm.running_mean), hook)]
    inputs = getattr(model, "pair_inputs", None)
    if not isinstance(inputs, FixedPairs):
        return []
    names, zeros = _names(inputs.name), inputs.scale.center.new_zeros(inputs.channels)
    hooks = _of_gate(inputs) if isinstance(inputs, GatedPairs) else {"encoder": _of_encoder(inputs)}
    return [PairInput(part, names, zeros, hook) for part, hook in hooks.items()]


def _of_encoder(inputs: FixedPairs) -> Callable[[JetBatch, Edit], Any]:
    def hook(jets: JetBatch, edit: Edit) -> Any:
        return inputs.register_forward_hook(lambda _, given, output: edit(output, given[1].first, given[1].second))

    return hook


def _of_gate(inputs: GatedPairs) -> dict[str, Callable[[JetBatch, Edit], Any]]:
    def gate(jets: JetBatch, edit: Edit) -> Any:
        def before(module: nn.Module, given: Any) -> Any:
            features, graph = given
            return edit(features, graph.first, graph.second), graph

        def after(module: nn.Module, given: Any, output: Any) -> Any:
            graph, _, bias = output
            return graph, inputs(bias, graph, jets), bias  # the encoder sees unchanged features

        hooks = ExitStack()
        hooks.enter_context(inputs.gate.register_forward_pre_hook(before))
        hooks.enter_context(inputs.gate.register_forward_hook(after))
        return hooks

    def encoder(jets: JetBatch, edit: Edit) -> Any:
        def change(module: nn.Module, given: Any, output: Any) -> Any:
            graph, features, bias = output
            return graph, edit(features, graph.first, graph.second), bias

        return inputs.gate.register_forward_hook(change)

    return {"gate and encoder": _of_encoder(inputs), "gate": gate, "encoder": encoder}


def _names(name: str) -> tuple[str, ...]:
    return (*PAIR_FEATURES[name], "is_self")


@contextmanager
def ablated(source: PairInput, name: str, variant: str, jets: JetBatch, seed: int = SEED) -> Iterator[None]:
    """Context in which a model does not see a pair feature.

    Args:
        source: where the model reads the feature.
        name: name of the feature.
        variant: one of :data:`VARIANTS`.
        jets: the jets on which the model runs in this context.
        seed: seed of the shuffling.
    """
    column = list(source.names).index(name)

    def edit(features: Tensor, first: Tensor, second: Tensor) -> Tensor:
        features = features.clone()
        if variant == "typical":
            features[:, column] = source.typical[column].to(features)
        else:
            features[:, column] = features[shuffle(first, second, jets, seed), column]
        return features

    with source.hook(jets, edit):
        yield


def shuffle(first: Tensor, second: Tensor, jets: JetBatch, seed: int) -> Tensor:
    """A permutation of pairs within each jet, self-pairs separately; shape [pairs].

    Args:
        first: one particle of each pair, shape [pairs].
        second: the other particle, shape [pairs].
        jets: the jets.
        seed: seed of the permutation.
    """
    random = torch.Generator().manual_seed(seed)
    group = 2 * jets.batch[first] + (first == second)
    order = torch.randperm(len(group), generator=random).to(group.device)
    order = order[group[order].argsort(stable=True)]
    result = torch.empty_like(order)
    result[group.argsort(stable=True)] = order
    return result


@torch.inference_mode()
def ablate_pair_features(model: AttentionModel, batches: Sequence[JetBatch]) -> dict[tuple[str, str, str], Array]:
    """Logits of a model with each of its pair features ablated in turn (``is_self`` is not shuffled).

    Returns:
        Logits, shape [jets, classes], by part of the model, feature and variant; empty without pair features.
    """
    found: dict[tuple[str, str, str], Array] = {}
    for source in pair_inputs(model):
        for name in source.names:
            for variant in VARIANTS:
                if (name, variant) == ("is_self", "shuffled"):
                    continue
                parts = []
                for number, jets in enumerate(batches):
                    with ablated(source, name, variant, jets, SEED + number):
                        parts.append(model(jets).cpu().numpy().astype(np.float64))
                found[source.part, name, variant] = np.concatenate(parts)
    return found
