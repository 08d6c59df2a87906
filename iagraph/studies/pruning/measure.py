"""Edges kept, cost and performance of models with rules and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from iagraph.data import JetSource
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, classification_report
from iagraph.studies.pruning.rules import Variant
from iagraph.studies.runs import some_batches, truth_of
from iagraph.studies.timing import TIMED_JETS, seconds_per_jet
from iagraph.train.evaluation import FLOP_JETS, evenly_spaced, flops_per_jet
from iagraph.train.folder import Run


@dataclass(frozen=True)
class Row:
    """Results of a pruned model.

    Attributes:
        family: name of the rule or control.
        strength: its strength, or None.
        name: family and strength.
        kept: fraction of all edges, self-edges included, that each layer keeps.
        flops: floating-point operations per jet.
        seconds: time per jet, including the choice of edges.
        report: accuracy, AUC and rejections, each with the error of the finite test set.
        difference: AUC minus that of the unpruned model on the same jets; None for that model itself.
    """

    family: str
    strength: float | None
    name: str
    kept: tuple[float, ...]
    flops: float
    seconds: float
    report: dict[str, Estimate]
    difference: Estimate | None

    @property
    def mean_kept(self) -> float:
        """Fraction of edges kept, mean over the layers."""
        return sum(self.kept) / len(self.kept)


def measure(
    models: Sequence[Variant], jets: JetSource, batches: Sequence[JetBatch], run: Run, device: torch.device
) -> list[Row]:
    """Measure each model, and print a line about each.

    Args:
        models: the models, the unpruned one first.
        jets: test jets, some of which are used to count operations and measure times.
        batches: the test jets to classify.
        run: the run, for its classes and configuration.
        device: the device for computations.
    """
    number = sum(map(len, batches))
    counted = jets[evenly_spaced(len(jets), min(FLOP_JETS, number))]
    timed = some_batches(jets, min(TIMED_JETS, number))
    truth = truth_of(run, batches)
    data, reports = run.config.data, []
    found = []
    for model in models:
        found.append(classify(model.to(device), batches))
        about = (run.classes, data.signal, data.signal_efficiency)
        reports.append(classification_report(truth.labels, found[-1].logits, *about))
        print(f"{model}: AUC {reports[-1]['auc']}", flush=True)
    flops = [flops_per_jet(model, counted) for model in models]
    names = [str(model) for model in models]
    print("measuring times of all models in turn", flush=True)
    seconds = seconds_per_jet(dict(zip(names, models, strict=True)), dict.fromkeys(names, timed), device)
    rows = []
    for name, model, (logits, kept), cost, report in zip(names, models, found, flops, reports, strict=True):
        difference = None if model is models[0] else truth.auc_change(logits, found[0].logits)
        rows.append(Row(model.family, model.strength, name, kept, cost, seconds[name], report, difference))
    return rows


class Classified(NamedTuple):
    """Outputs of a model.

    Attributes:
        logits: shape [jets, classes].
        kept: fraction of all edges, self-edges included, that each layer keeps.
    """

    logits: NDArray[np.float32]
    kept: tuple[float, ...]


@torch.inference_mode()
def classify(model: Variant, batches: Sequence[JetBatch]) -> Classified:
    """Logits of jets and fractions of edges kept, computed on the device of the model."""
    device = next(model.parameters()).device
    logits, kept, everything = [], [0] * len(model.tagger.convs()), 0
    for batch in batches:
        found, weights = model(batch.to(device), return_attention_weights=True)
        logits.append(found.cpu().numpy())
        kept = [number + alpha.size(0) for number, (_, alpha, _) in zip(kept, weights, strict=True)]
        everything += int(batch.ptr.diff().square().sum())
    return Classified(np.concatenate(logits), tuple(number / max(1, everything) for number in kept))
