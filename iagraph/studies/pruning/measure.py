"""Models with rules and controls, measured: what is left of their edges, of their cost and of their performance."""

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
    """A way to prune a model, and what comes of it.

    Attributes:
        family: name of the rule or of the control.
        strength: its number, None if there is none.
        name: both in one.
        kept: fraction of all edges, those of a particle with itself included, that each layer has left.
        flops: floating-point operations per jet.
        seconds: time per jet, the choice of the edges included.
        report: accuracy, AUC and rejections, each with the error of the finite test set.
        difference: AUC minus that of the model without pruning on the same jets; None for that model itself.
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
        """Fraction of all edges that are left, mean over the layers."""
        return sum(self.kept) / len(self.kept)


def measure(
    models: Sequence[Variant], jets: JetSource, batches: Sequence[JetBatch], run: Run, device: torch.device
) -> list[Row]:
    """A row for each model; it says a line about each.

    Args:
        models: the first one is the model without pruning.
        jets: test jets, some of which serve to count operations and to measure times.
        batches: those of them that are classified.
        run: tells the classes.
        device: where to do all of it.
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
    print("measuring times, all of them in turn", flush=True)
    seconds = seconds_per_jet(dict(zip(names, models, strict=True)), dict.fromkeys(names, timed), device)
    rows = []
    for name, model, (logits, kept), cost, report in zip(names, models, found, flops, reports, strict=True):
        difference = None if model is models[0] else truth.auc_change(logits, found[0].logits)
        rows.append(Row(model.family, model.strength, name, kept, cost, seconds[name], report, difference))
    return rows


class Classified(NamedTuple):
    """What a model makes of jets.

    Attributes:
        logits: shape [jets, classes].
        kept: fraction of all edges, those of a particle with itself included, that each layer has left.
    """

    logits: NDArray[np.float32]
    kept: tuple[float, ...]


@torch.inference_mode()
def classify(model: Variant, batches: Sequence[JetBatch]) -> Classified:
    """Logits of jets, and the edges that are left of theirs; on the device of the model."""
    device = next(model.parameters()).device
    logits, kept, everything = [], [0] * len(model.tagger.convs()), 0
    for batch in batches:
        found, weights = model(batch.to(device), return_attention_weights=True)
        logits.append(found.cpu().numpy())
        kept = [number + alpha.size(0) for number, (_, alpha, _) in zip(kept, weights, strict=True)]
        everything += int(batch.ptr.diff().square().sum())
    return Classified(np.concatenate(logits), tuple(number / max(1, everything) for number in kept))
