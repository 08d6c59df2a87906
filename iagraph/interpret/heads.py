"""Importance of heads, layers and small sets of heads: ablation, and patching with activations of other jets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from iagraph.estimates import Array
from iagraph.interpret.interventions import Changes, Head, Trace, heads, of_head, resume, run_changed, sites, trace
from iagraph.interpret.particles import other_class, rank_match, take, transplant
from iagraph.interpret.recording import AttentionModel
from iagraph.jets import JetBatch

KINDS = ("zero", "mean")
"""What replaces an ablated head's weighted sums: zero, or their mean over all particles."""

CLEAN, DONOR = "clean", "donor"


@torch.inference_mode()
def mean_sums(model: AttentionModel, batches: Iterable[JetBatch]) -> list[Tensor]:
    """Weighted sums of all heads, averaged over particles (in class attention, jets); shape [width] for each site."""
    totals = [torch.zeros((), dtype=torch.float64) for _ in sites(model)]
    counts = [0] * len(totals)
    for jets in batches:
        for place, sums in enumerate(trace(model, jets).sums):
            totals[place] = totals[place] + sums.sum(0, dtype=torch.float64).cpu()
            counts[place] += len(sums)
    first = next(model.parameters())
    return [(total / max(count, 1)).to(first) for total, count in zip(totals, counts, strict=True)]


def ablation(model: AttentionModel, chosen: Iterable[Head], kind: str, means: Sequence[Tensor]) -> dict[Head, Tensor]:
    """Replacements for the weighted sums of ablated heads, by head.

    Args:
        model: the model.
        chosen: the heads to ablate.
        kind: one of :data:`KINDS`.
        means: from :func:`mean_sums`.
    """
    convs = [site.conv for site in sites(model)]
    values = {head: of_head(convs[head.site], means[head.site], head.head) for head in chosen}
    return {head: torch.zeros_like(value) if kind == "zero" else value for head, value in values.items()}


def ablate_heads(model: AttentionModel, batches: Iterable[JetBatch], means: Sequence[Tensor]) -> dict[object, Array]:
    """Logits with each single head, and with all heads of each layer, ablated.

    Args:
        model: the model, in evaluation mode.
        batches: the jets, on its device.
        means: from :func:`mean_sums`.

    Returns:
        Logits, shape [jets, classes], by ``(kind, Head)``, by ``(kind, index of the site)``, and by :data:`CLEAN`.
    """
    everyone = heads(model)
    changes: dict[object, Changes] = {CLEAN: {}}
    for kind in KINDS:
        changes |= {(kind, head): ablation(model, [head], kind, means) for head in everyone}
        for place in range(len(sites(model))):
            layer = [head for head in everyone if head.site == place]
            changes[kind, place] = ablation(model, layer, kind, means)
    return run_all(model, batches, changes)


def keep_heads(
    model: AttentionModel,
    batches: Iterable[JetBatch],
    means: Sequence[Tensor],
    orders: Mapping[str, tuple[str, Sequence[Head]]],
    numbers: Sequence[int],
) -> dict[object, Array]:
    """Logits of a model with all heads ablated except the first k of an order.

    Args:
        model: the model, in evaluation mode.
        batches: the jets, on its device.
        means: from :func:`mean_sums`.
        orders: the kind of ablation and all heads in order, by the name of the order.
        numbers: the values of k.

    Returns:
        Logits, shape [jets, classes], by ``(name of the order, k)``, and by :data:`CLEAN`.
    """
    changes: dict[object, Changes] = {CLEAN: {}}
    for name, (kind, order) in orders.items():
        changes |= {(name, number): ablation(model, order[number:], kind, means) for number in numbers}
    return run_all(model, batches, changes)


@torch.inference_mode()
def run_all(
    model: AttentionModel, batches: Iterable[JetBatch], changes: Mapping[object, Changes]
) -> dict[object, Array]:
    """Logits with each set of changes, shape [jets, classes], by its name in ``changes``."""
    return _collected(
        {name: run_changed(model, recorded, change) for name, change in changes.items()}
        for recorded in (trace(model, jets) for jets in batches)
    )


@torch.inference_mode()
def patch(
    model: AttentionModel,
    batches: Sequence[JetBatch],
    find_donors: Callable[[Tensor], Tensor] = other_class,
) -> dict[object, Array]:
    """Logits of jets with activations patched in from another real jet, the donor.

    A particle takes the activation of the donor's particle of the same rank in pT, and keeps its own if the donor has
    fewer particles; every activation thus comes from a real jet. Patches replace either the sums of a head, with
    effects on all later layers, or the residual stream: the vectors of all particles before a block or after the last
    one. Later layers keep the pair scores of the clean jet.

    Args:
        model: the model, in evaluation mode.
        batches: the jets, with labels, on its device.
        find_donors: function from the labels of all jets to the index of each jet's donor.

    Returns:
        Logits, shape [jets, classes], by ``Head``, by the number of blocks before a patch of the residual stream, by
        :data:`CLEAN`, and by :data:`DONOR` for the donors themselves.
    """
    everything = JetBatch.concatenate(batches)
    assert everything.y is not None
    places = find_donors(everything.y).split([len(jets) for jets in batches])
    return _collected(
        _patched(model, trace(model, jets), trace(model, take(everything, place)))
        for jets, place in zip(batches, places, strict=True)
    )


def _patched(model: AttentionModel, clean: Trace, donor: Trace) -> dict[object, Tensor]:
    match = rank_match(clean.jets, donor.jets)
    found: dict[object, Tensor] = {CLEAN: clean.logits, DONOR: donor.logits}
    places = sites(model)
    for head in heads(model):
        site, theirs = places[head.site], donor.sums[head.site]
        sums = theirs if site.of_jets else transplant(clean.sums[head.site], theirs, match)
        found[head] = run_changed(model, clean, {head: of_head(site.conv, sums, head.head)})
    for depth, (own, theirs) in enumerate(zip(clean.x, donor.x, strict=True)):
        found[depth] = resume(model, clean, depth, transplant(own, theirs, match))
    return found


def _collected(parts: Iterable[Mapping[object, Tensor]]) -> dict[object, Array]:
    logits: dict[object, list[Array]] = {}
    for part in parts:
        for name, values in part.items():
            logits.setdefault(name, []).append(values.cpu().numpy().astype(np.float64))
    return {name: np.concatenate(values) for name, values in logits.items()}
