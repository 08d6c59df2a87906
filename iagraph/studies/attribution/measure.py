"""Relevance and deletion tests on the test jets of a run, per jet, so that errors come from the spread over jets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from iagraph.interpret.deletion import decided, decision_left, deletion_logits
from iagraph.interpret.profiles import (
    axis_distance,
    fraction_by_species,
    fraction_by_subjet,
    fraction_of_hardest,
    relative_relevance,
    sums_in_bins,
)
from iagraph.interpret.recording import AttentionModel
from iagraph.interpret.relevance import (
    evidence,
    grad_cam,
    gradient_times_input,
    integrated_gradients,
    layerwise_relevance,
)
from iagraph.jets import JetBatch
from iagraph.segment import segment_sum
from iagraph.studies.runs import OpenRun

Method = Callable[[AttentionModel, JetBatch, Tensor], Tensor]

METHODS: dict[str, Method] = {
    "Grad-CAM": partial(grad_cam, signed=True),
    "gradient x input": gradient_times_input,
    "integrated gradients": integrated_gradients,
    "LRP": layerwise_relevance,
}
"""Methods by name. Grad-CAM uses the last block and no ReLU: one would not change the order of positive relevance."""

MOST, LEAST = "most relevant first", "least relevant first"
CONTROLS = ("highest pT first", "lowest pT first", "by chance")
JETS_AT_ONCE = 16
"""Number of jets explained at once. Edge lists with gradients take memory: in ParT, about a gigabyte for 16 jets of 100
particles.
"""

PT_EDGES = tuple(np.geomspace(0.3, 200, 15).tolist())
"""Bin edges of pT [GeV]."""

DISTANCE_EDGES = tuple(np.linspace(0, 0.4, 11).tolist())
BINNED = {"pt": PT_EDGES, "distance": DISTANCE_EDGES}


class Measured(NamedTuple):
    """Measurements per jet; keys of ``relevance`` are those of :data:`METHODS`.

    Attributes:
        classes: explained class, shape [jets].
        logits: logits after deletion, by order of deletion: ``(method, MOST or LEAST)`` or ``(control, "")``; each of
            shape [fractions, jets, classes].
        sums: sum of relevance by method, shape [jets].
        relevance: profiles (:mod:`~iagraph.interpret.profiles`) of relative relevance by method and name, shape
            [jets, ...].
        particles: profiles in which each particle counts as 1 or, for names that start with "pt ", as its pT.
    """

    classes: Tensor
    logits: dict[tuple[str, str], Tensor]
    sums: dict[str, Tensor]
    relevance: dict[str, dict[str, Tensor]]
    particles: dict[str, Tensor]


def explained_classes(run: OpenRun, logits: Tensor) -> Tensor:
    """The signal class for each jet, or the predicted class if there is no single signal. Shape [jets]."""
    predicted = logits.argmax(1)
    return predicted if run.truth.signal is None else torch.full_like(predicted, run.truth.signal)


def relevances(model: AttentionModel, jets: JetBatch, classes: Tensor) -> dict[str, Tensor]:
    """Relevance by each of :data:`METHODS`, shape [particles]; computed for :data:`JETS_AT_ONCE` jets at a time."""
    bounds = [(begin, min(begin + JETS_AT_ONCE, len(jets))) for begin in range(0, len(jets), JETS_AT_ONCE)]
    parts = [(jets.part(begin, end), classes[begin:end]) for begin, end in bounds]
    return {name: torch.cat([method(model, *part) for part in parts]) for name, method in METHODS.items()}


def measure(run: OpenRun) -> Measured:
    """All measurements of a run, batch by batch."""
    return _joined([_of_batch(run, number, jets) for number, jets in enumerate(_with_progress(run))])


def _with_progress(run: OpenRun) -> Iterator[JetBatch]:
    done = 0
    for jets in run.batches:
        yield jets.to(run.device)
        done += len(jets)
        print(f"{run.name}: {done} of {run.jets} jets", flush=True)


def _of_batch(run: OpenRun, number: int, jets: JetBatch) -> Measured:
    with torch.inference_mode():
        whole = run.model(jets)
    whole = whole.clone()  # inference tensors do not allow gradients
    classes = explained_classes(run, whole)
    found = relevances(run.model, jets, classes)
    sign = decided(evidence(whole, classes))[jets.batch]
    random = torch.Generator().manual_seed(number)
    chance = torch.rand(jets.batch.numel(), generator=random).to(run.device)
    orders = {(name, MOST): sign * relevance for name, relevance in found.items()}
    orders |= {(name, LEAST): -sign * relevance for name, relevance in found.items()}
    orders |= {
        (name, ""): worth for name, worth in zip(CONTROLS, (jets.momenta.pt, -jets.momenta.pt, chance), strict=True)
    }
    ones = torch.ones_like(jets.momenta.pt)
    return Measured(
        classes=classes.cpu(),
        logits={name: deletion_logits(run.model, jets, worth).cpu().clone() for name, worth in orders.items()},
        sums={name: segment_sum(relevance, jets.batch, len(jets)).cpu() for name, relevance in found.items()},
        relevance={name: _profiles(relative_relevance(relevance, jets), jets) for name, relevance in found.items()},
        particles=_profiles(ones, jets) | {f"pt {k}": v for k, v in _profiles(jets.momenta.pt, jets).items()},
    )


def _profiles(values: Tensor, jets: JetBatch) -> dict[str, Tensor]:
    coordinates = {"pt": jets.momenta.pt, "distance": axis_distance(jets)}
    profiles = {"hardest": fraction_of_hardest(values.abs(), jets)}
    for name, coordinate in coordinates.items():
        profiles[name] = sums_in_bins(values.abs(), coordinate, BINNED[name], jets)
        profiles[f"signed {name}"] = sums_in_bins(values, coordinate, BINNED[name], jets)
    fractions = {
        "species": fraction_by_species(values.abs(), jets),
        "signed species": fraction_by_species(values, jets),
        "subjet": fraction_by_subjet(values.abs(), jets),
    }
    return {name: found.cpu() for name, found in (profiles | fractions).items() if found is not None}


def _joined(parts: list[Measured]) -> Measured:
    def join(each: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {key: torch.cat([part[key] for part in each]) for key in each[0]}

    return Measured(
        classes=torch.cat([part.classes for part in parts]),
        logits={key: torch.cat([part.logits[key] for part in parts], 1) for key in parts[0].logits},
        sums=join([part.sums for part in parts]),
        relevance={name: join([part.relevance[name] for part in parts]) for name in parts[0].relevance},
        particles=join([part.particles for part in parts]),
    )


def left(found: Measured, order: tuple[str, str]) -> Tensor:
    """Evidence for the decision after deletion in one order, shape [fractions, jets]."""
    return decision_left(found.logits[order], found.classes)
