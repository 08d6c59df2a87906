"""All that is measured of a run, batch by batch: memory holds one batch and some numbers per jet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from iagraph.graph import fully_connected
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, accuracy, auc_difference, macro_auc, macro_auc_difference, roc_auc
from iagraph.observables import subjets
from iagraph.studies.estimates import ratio
from iagraph.studies.of_run import OpenRun
from iagraph.studies.recording import AttentionModel, LayerAttention, recorded
from iagraph.studies.sparsity.between import between_subjets, geometry, number_of_subjets
from iagraph.studies.sparsity.binary import binarity
from iagraph.studies.sparsity.measured import Measured, added, stacked
from iagraph.studies.sparsity.zeroing import Zeroing, zeroings
from iagraph.train.folder import build_model

Subjets: TypeAlias = tuple[JetBatch, Tensor | None]
"""Jets and the subjet of each particle, None without FastJet."""
Measure: TypeAlias = Callable[[Sequence[LayerAttention], JetBatch, Tensor | None], Measured]

AS_TRAINED = "as trained"
RANDOM_SEED = 1


@dataclass(frozen=True)
class Variant:
    """A model, some of its scores set to zero.

    Attributes:
        logits: shape [jets, classes].
        found: how binary it is, as :func:`~iagraph.studies.sparsity.binary.binarity` has it; of the model as trained
            also whom its attention links (:func:`~iagraph.studies.sparsity.between.geometry`), and ``random between``
            of the same model with random weights.
    """

    logits: Tensor
    found: Measured


@dataclass(frozen=True)
class RunAttention:
    """What the attention of a run does.

    Attributes:
        name: what to call it.
        run: the run.
        labels: class of each jet.
        variants: the model as trained, and with scores set to zero.
    """

    name: str
    run: OpenRun
    labels: Tensor
    variants: dict[str, Variant]

    @property
    def found(self) -> Measured:
        """What the attention of the trained model does."""
        return self.variants[AS_TRAINED].found

    @property
    def layers(self) -> int:
        """The number of attention layers among particles."""
        return self.found.layers["row"].size(1)

    def non_binary_tokens(self, variant: str = AS_TRAINED, name: str = "non_binary") -> Estimate:
        """The share of particles with at least one row of a flag, in any layer."""
        return ratio(*(self.variants[variant].found.jets[f"{each} tokens"] for each in (name, "row")))

    def accuracy(self, variant: str, reference: Tensor | None = None) -> tuple[Estimate, Estimate]:
        """Accuracy, and what it is above that of other logits of the same jets, by default of the trained model."""
        logits = self.variants[variant].logits
        reference = self.variants[AS_TRAINED].logits if reference is None else reference
        right, before = ((each.argmax(1) == self.labels).double() for each in (logits, reference))
        return accuracy(self.labels.numpy(), logits.numpy()), ratio(right - before, torch.ones_like(right))

    def auc(self, variant: str, reference: Tensor | None = None) -> tuple[Estimate, Estimate]:
        """AUC, of more than two classes the macro AUC, and what it is above that of other logits, as for accuracy."""
        labels, scores = self.labels.numpy(), self.variants[variant].logits.numpy()
        before = (self.variants[AS_TRAINED].logits if reference is None else reference).numpy()
        name = self.run.run.config.data.signal
        if name is None:
            return macro_auc(labels, scores), macro_auc_difference(labels, scores, before)
        signal = self.run.run.classes.index(name)
        return roc_auc(labels, scores, signal), auc_difference(labels, scores, before, signal)

    def has_jets_of(self, other: RunAttention) -> bool:
        """Whether both runs were looked at with the same jets and call their classes the same."""
        if self.run.run.classes != other.run.run.classes or not self.labels.equal(other.labels):
            return False
        mine, theirs = (torch.cat([jets.momenta.pt for jets in run.run.batches]) for run in (self, other))
        return mine.equal(theirs)


@torch.inference_mode()
def of_model(
    model: AttentionModel, batches: Sequence[Subjets], measure: Measure, zeroing: Zeroing | None = None
) -> Variant:
    """Logits of a model and what is measured of its attention, with some scores set to zero if asked for.

    Args:
        model: in evaluation mode.
        batches: the jets, on its device, with their subjets.
        measure: what is measured of a batch.
        zeroing: one of :func:`~iagraph.studies.sparsity.zeroing.zeroings`.
    """
    logits, parts = [], []
    for jets, subjet in batches:
        with recorded(model) as layers, nullcontext() if zeroing is None else zeroing(model):
            logits.append(model(jets, fully_connected(jets.ptr)).cpu())
        parts.append(measure(layers, jets, subjet))
    return Variant(torch.cat(logits), added(parts))


def of_run(run: OpenRun, name: str) -> RunAttention:
    """All of it.

    Args:
        run: an open run.
        name: what to call it.
    """
    numbers = [number_of_subjets(label) for label in run.run.classes]
    batches, labels = list[Subjets](), list[Tensor]()
    for jets in run.batches:
        assert jets.y is not None
        batches.append((jets.to(run.device), subjets(jets, [numbers[label] for label in jets.y.tolist()])))
        labels.append(jets.y)
    trained = of_model(run.model, batches, _all)
    by_chance = of_model(random_model(run), batches, _between_of_random)
    variants = {AS_TRAINED: Variant(trained.logits, trained.found.merged(by_chance.found))}
    for key, zeroing in zeroings(run.model).items():
        variants[key] = of_model(run.model, batches, _binarity, zeroing)
    return RunAttention(name, run, torch.cat(labels), variants)


def _all(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> Measured:
    return binarity(layers, jets).merged(geometry(layers, jets, subjet))


def _binarity(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> Measured:
    return binarity(layers, jets)


def _between_of_random(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> Measured:
    if subjet is None:
        return Measured()
    return stacked(between_subjets(layer, jets, subjet, "random ") for layer in layers)


def random_model(run: OpenRun) -> AttentionModel:
    """The model of a run with random weights, the same each time, in evaluation mode on its device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        model = build_model(run.run.config, run.run.classes)
    return model.to(run.device).eval()  # type: ignore[return-value]
