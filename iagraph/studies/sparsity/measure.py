"""Measurements of a run batch by batch: memory holds the attention of one batch and a few numbers per jet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from iagraph.estimates import mean, ratio
from iagraph.graph import fully_connected
from iagraph.interpret.binarity import binarity
from iagraph.interpret.geometry import between_subjets, geometry, lepton_attention, number_of_subjets
from iagraph.interpret.recording import AttentionModel, LayerAttention, recorded
from iagraph.interpret.sums import JetSums, added, stacked
from iagraph.interpret.zeroing import Zeroing, zeroings
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, accuracy
from iagraph.observables import subjets
from iagraph.studies.runs import OpenRun
from iagraph.train.folder import kept_epochs

Subjets: TypeAlias = tuple[JetBatch, Tensor | None]
"""Jets and the subjet of each particle, or None without FastJet."""
Measure: TypeAlias = Callable[[Sequence[LayerAttention], JetBatch, Tensor | None], JetSums]

AS_TRAINED = "as trained"


@dataclass(frozen=True)
class Variant:
    """Results of a model, as trained or with some scores set to zero.

    Attributes:
        logits: shape [jets, classes].
        found: sums of :func:`~iagraph.interpret.binarity.binarity`; for the model as trained also those of
            :func:`~iagraph.interpret.geometry.geometry`, and ``random between``, ``random lepton attention`` etc. for
            the same model with random weights.
    """

    logits: Tensor
    found: JetSums


@dataclass(frozen=True)
class RunAttention:
    """Attention of a run: for the model as trained, and with some scores set to zero.

    Attributes:
        run: the run.
        variants: its models by name.
        epochs: the same for the weights that the run kept during training, by epoch, counted from 1.
    """

    run: OpenRun
    variants: dict[str, Variant]
    epochs: dict[int, RunAttention] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def labels(self) -> Tensor:
        """Class of each jet."""
        return torch.from_numpy(self.run.truth.labels)

    @property
    def found(self) -> JetSums:
        """Sums of the trained model."""
        return self.variants[AS_TRAINED].found

    @property
    def layers(self) -> int:
        """Number of attention layers among particles."""
        return self.found.layers["row"].size(1)

    def non_binary_tokens(self, variant: str = AS_TRAINED, name: str = "non_binary") -> Estimate:
        """Fraction of particles with at least one row flagged as ``name``, in any layer."""
        return ratio(*(self.variants[variant].found.jets[f"{each} tokens"] for each in (name, "row")))

    def accuracy(self, variant: str, reference: Tensor | None = None) -> tuple[Estimate, Estimate]:
        """Accuracy of a variant, and its difference from that of reference logits, same jets (default: as trained)."""
        logits = self.variants[variant].logits
        reference = self.variants[AS_TRAINED].logits if reference is None else reference
        right, before = ((each.argmax(1) == self.labels).double() for each in (logits, reference))
        return accuracy(self.run.truth.labels, logits.numpy()), mean(right - before)

    def auc(self, variant: str, reference: Tensor | None = None) -> tuple[Estimate, Estimate]:
        """AUC of a variant (macro AUC for more than two classes), and its difference, as in :meth:`accuracy`."""
        scores = self.variants[variant].logits.numpy()
        before = (self.variants[AS_TRAINED].logits if reference is None else reference).numpy()
        return self.run.truth.auc(scores), self.run.truth.auc_change(scores, before)

    def has_jets_of(self, other: RunAttention) -> bool:
        """Whether both runs have the same jets, with or without masses, and the same classes."""
        if self.run.run.classes != other.run.run.classes or not self.labels.equal(other.labels):
            return False
        mine, theirs = (torch.cat([jets.momenta.pt for jets in run.run.batches]) for run in (self, other))
        return mine.equal(theirs)


@torch.inference_mode()
def of_model(
    model: AttentionModel, batches: Sequence[Subjets], measure: Measure, zeroing: Zeroing | None = None
) -> Variant:
    """Logits of a model and measurements of its attention, optionally with some scores set to zero.

    Args:
        model: in evaluation mode.
        batches: the jets, on its device, with their subjets.
        measure: measurement of a batch.
        zeroing: one of :func:`~iagraph.interpret.zeroing.zeroings`; None for no change.
    """
    logits, parts = [], []
    for jets, subjet in batches:
        with recorded(model) as layers, nullcontext() if zeroing is None else zeroing(model):
            logits.append(model(jets, fully_connected(jets.ptr)).cpu())
        parts.append(measure(layers, jets, subjet))
    return Variant(torch.cat(logits), added(parts))


def of_run(run: OpenRun) -> RunAttention:
    """All measurements of a run."""
    numbers = [number_of_subjets(label) for label in run.run.classes]
    batches = list[Subjets]()
    for jets in run.batches:
        assert jets.y is not None
        batches.append((jets.to(run.device), subjets(jets, [numbers[label] for label in jets.y.tolist()])))
    found, random = _measured(run, batches), of_model(run.untrained(), batches, _of_random)
    trained = found.variants[AS_TRAINED]
    found.variants[AS_TRAINED] = Variant(trained.logits, trained.found.merged(random.found))
    return replace(found, epochs={epoch: _measured(run.at_epoch(epoch), batches) for epoch in kept_epochs(run.path)})


def _measured(run: OpenRun, batches: Sequence[Subjets]) -> RunAttention:
    variants = {AS_TRAINED: of_model(run.model, batches, _all)}
    for key, zeroing in zeroings(run.model).items():
        variants[key] = of_model(run.model, batches, _binarity, zeroing)
    return RunAttention(run, variants)


def _all(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> JetSums:
    return binarity(layers, jets).merged(geometry(layers, jets, subjet))


def _binarity(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> JetSums:
    return binarity(layers, jets)


def _of_random(layers: Sequence[LayerAttention], jets: JetBatch, subjet: Tensor | None) -> JetSums:
    found = JetSums()
    if subjet is not None:
        found = found.merged(stacked(between_subjets(layer, jets, subjet, "random ") for layer in layers))
    if jets.pid is not None:
        found = found.merged(stacked(lepton_attention(layer, jets, "random ") for layer in layers))
    return found
