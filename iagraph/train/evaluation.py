"""Judgement of a trained tagger: its numbers beside those of constituent multiplicity, predictions and figures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from iagraph.data import JetDataset
from iagraph.graphs import JetBatch
from iagraph.metrics import Estimate, auc_difference, classification_report
from iagraph.train.figures import roc_curves, save_figure, score_histograms
from iagraph.train.module import Tagger, betas

COLUMNS = {"accuracy": "accuracy", "auc": "AUC", "rejection_at_0.5": "1/eB at 0.5", "rejection_at_0.3": "1/eB at 0.3"}
FLOP_JETS = 256


@dataclass(frozen=True)
class MultiplicityTagger:
    """Logistic regression on the number of particles alone: what any tagger must beat.

    Attributes:
        slope, intercept: the logit of the second class against the first is ``slope * multiplicity + intercept``.
    """

    slope: float
    intercept: float

    @classmethod
    def fit(cls, jets: JetDataset) -> MultiplicityTagger:
        """Fits it to jets of two classes."""
        fit = LogisticRegression(max_iter=1000).fit(jets.multiplicity[:, None].numpy(), jets.label.numpy())
        return cls(float(fit.coef_[0, 0]), float(fit.intercept_[0]))

    def __call__(self, multiplicity: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logits, shape [jets, 2]."""
        second = multiplicity * self.slope + self.intercept
        return np.stack([np.zeros_like(second), second], axis=1)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a tagger on jets, and what they amount to.

    Attributes:
        labels: class of each jet.
        multiplicity: number of particles of each jet.
        logits: of the tagger, shape [jets, classes].
        baseline: logits of multiplicity alone, shape [jets, classes].
        classes: names of the classes.
        signal: name of the signal class.
        cost: parameters, FLOPs per jet, jets per second, and on what the last was measured.
        beta: the learned beta of each attention layer.
    """

    labels: NDArray[np.int64]
    multiplicity: NDArray[np.int64]
    logits: NDArray[np.float32]
    baseline: NDArray[np.float64]
    classes: tuple[str, ...]
    signal: str
    cost: dict[str, Any]
    beta: dict[str, list[float]]

    @cached_property
    def reports(self) -> dict[str, dict[str, Estimate]]:
        """Accuracy, AUC and rejections with errors, of the tagger and of multiplicity."""
        scores: dict[str, ArrayLike] = {"tagger": self.logits, "multiplicity": self.baseline}
        return {name: classification_report(self.labels, s, self.classes, self.signal) for name, s in scores.items()}

    @cached_property
    def gain(self) -> Estimate:
        """AUC of the tagger minus that of multiplicity on the same jets."""
        return auc_difference(self.labels, self.logits, self.baseline, self.classes.index(self.signal))

    def metrics(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them: an infinite or undefined number is null."""
        reports = {name: {key: _json(e) for key, e in report.items()} for name, report in self.reports.items()}
        gain = {"auc_gain_over_multiplicity": _json(self.gain)}
        about = {"jets": len(self.labels), "signal": self.signal}
        return {**about, **reports, **gain, "cost": self.cost, "beta": self.beta}

    def table(self, name: str) -> str:
        """The same as a Markdown table."""
        cost, reports = self.cost, self.reports
        price = [f"{cost['parameters']:,}", f"{cost['flops_per_jet'] / 1e6:.1f}", f"{cost['jets_per_second']:.0f}"]
        rows = [
            ["", *COLUMNS.values(), "parameters", "MFLOP/jet", "jets/s"],
            ["---"] * (len(COLUMNS) + 4),
            [name, *(str(reports["tagger"][key]) for key in COLUMNS), *price],
            ["multiplicity alone", *(str(reports["multiplicity"][key]) for key in COLUMNS), "2", "-", "-"],
        ]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        return f"{table}\n\nAUC above multiplicity: {self.gain} ({len(self.labels):,} jets, signal: {self.signal})"

    def write(self, folder: Path, name: str, fingerprints: dict[str, str]) -> None:
        """Writes ``metrics.json``, ``report.md``, ``predictions.npz`` and figures.

        Args:
            folder: where to.
            name: what to call the tagger.
            fingerprints: of the files that hold the jets.
        """
        metrics = json.dumps({"data": fingerprints, **self.metrics()}, indent=2, allow_nan=False)
        (folder / "metrics.json").write_text(metrics + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.table(name) + "\n", encoding="utf-8")
        np.savez_compressed(
            folder / "predictions.npz", label=self.labels, logits=self.logits, multiplicity=self.multiplicity
        )
        signal = self.classes.index(self.signal)
        curves: dict[str, tuple[ArrayLike, ArrayLike]]
        curves = {name: (self.labels, self.logits), "multiplicity alone": (self.labels, self.baseline)}
        save_figure(roc_curves(curves, signal), folder / "figures" / "roc")
        save_figure(score_histograms(self.labels, self.logits, self.classes, signal), folder / "figures" / "scores")


def evaluate_tagger(
    tagger: Tagger,
    trainer: Trainer,
    loader: DataLoader[JetBatch],
    jets: JetDataset,
    baseline: MultiplicityTagger,
    signal: str,
) -> Evaluation:
    """Scores of all jets of a loader, which holds ``jets`` in their order."""
    batches = trainer.predict(tagger, loader)
    logits = torch.cat([batch for batch in batches or [] if isinstance(batch, torch.Tensor)]).cpu().numpy()
    cost = {
        "parameters": sum(parameter.numel() for parameter in tagger.model.parameters()),
        "flops_per_jet": flops_per_jet(tagger.model, jets[:FLOP_JETS]),
        "jets_per_second": tagger.jets_per_second(),
        "measured_on": {
            "device": tagger.predicted_on,
            "threads": torch.get_num_threads(),
            "batch_size": tagger.batch_size,
        },
    }
    multiplicity = jets.multiplicity.numpy()
    scores = (jets.label.numpy(), multiplicity, logits, baseline(multiplicity))
    return Evaluation(*scores, jets.classes, signal, cost, betas(tagger.model))


def flops_per_jet(model: nn.Module, jets: JetBatch) -> float:
    """Floating-point operations of the matrix products, two per multiply-add; mean over jets in one batch.

    What the model really multiplies counts, little padding of dense blocks included.
    """
    device = next(model.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(jets.to(device))
    return counter.get_total_flops() / len(jets)


def _json(estimate: Estimate) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in estimate._asdict().items()}
