"""Evaluation of a trained tagger: metrics, compared with multiplicity alone, and predictions and figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from torch import nn

from iagraph.data import JetLoader, JetSource
from iagraph.data.sources import evenly_spaced
from iagraph.files import write_text
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, auc_difference, classification_report, effective_number, macro_auc_difference
from iagraph.models.costs import multiply_adds
from iagraph.plotting import save_figure
from iagraph.tables import markdown
from iagraph.train.config import DataConfig
from iagraph.train.figures import class_roc_curves, confusion, roc_curves, score_histograms
from iagraph.train.module import Tagger, betas

FLOP_JETS = 256


@dataclass(frozen=True)
class MultiplicityTagger:
    """Logistic regression on the number of particles: the baseline for every tagger.

    Attributes:
        slopes, intercepts: one number per class, 0 for the first; the logit of class k against the first is
            ``slopes[k] * multiplicity + intercepts[k]``.
    """

    slopes: Sequence[float]
    intercepts: Sequence[float]

    @classmethod
    def fit(cls, jets: JetSource) -> MultiplicityTagger:
        """Fit to jets of all classes, with their weights, if any."""
        # Even 10^8 jets have only a few thousand distinct pairs of multiplicity and class.
        classes = len(jets.classes)
        weights = None if jets.weight is None else jets.weight.double()
        counts = torch.bincount(jets.multiplicity * classes + jets.label, weights)
        pairs = counts.nonzero().squeeze(1)
        multiplicity, label = pairs // classes, pairs % classes
        regression = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000)
        fit = regression.fit(multiplicity[:, None].numpy(), label.numpy(), sample_weight=counts[pairs].numpy())
        # scikit-learn gives coefficients only for the second of two classes, but for every class if there are more.
        slopes, intercepts = (
            np.append(0.0, found) if len(jets.classes) == 2 else found - found[0]
            for found in (fit.coef_[:, 0], fit.intercept_)
        )
        return cls(slopes.tolist(), intercepts.tolist())

    def __call__(self, multiplicity: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logits, shape [jets, classes]."""
        return np.multiply.outer(multiplicity, np.array(self.slopes)) + np.array(self.intercepts)


@dataclass(frozen=True)
class Evaluation:
    """Scores of a tagger on jets, and metrics derived from them.

    Attributes:
        labels: class of each jet.
        multiplicity: number of particles of each jet.
        logits: logits of the tagger, shape [jets, classes].
        baseline: logits of multiplicity alone, shape [jets, classes].
        classes: class names; if more than two, the first is the background.
        signal: name of the signal class if there are two classes; None for more.
        signal_efficiency: for more classes, signal efficiencies at which to quote rejections, by class name.
        cost: parameters, FLOPs per jet, jets per second, and the hardware on which these were measured.
        beta: learned beta of each differential attention layer, by name.
        weights: weights of the jets, if any.
    """

    labels: NDArray[np.int64]
    multiplicity: NDArray[np.int64]
    logits: NDArray[np.float32]
    baseline: NDArray[np.float64]
    classes: tuple[str, ...]
    signal: str | None
    signal_efficiency: Mapping[str, float]
    cost: dict[str, Any]
    beta: dict[str, list[float]]
    weights: NDArray[np.float32] | None = None

    @cached_property
    def reports(self) -> dict[str, dict[str, Estimate]]:
        """Accuracy, AUC and rejections with errors, for the tagger and for multiplicity."""
        scores: dict[str, ArrayLike] = {"tagger": self.logits, "multiplicity": self.baseline}
        about = (self.classes, self.signal, self.signal_efficiency)
        return {
            name: classification_report(self.labels, values, *about, self.weights) for name, values in scores.items()
        }

    @cached_property
    def gain(self) -> Estimate:
        """AUC of the tagger minus the AUC of multiplicity on the same jets; macro AUC for more than two classes."""
        if self.signal is None:
            return macro_auc_difference(self.labels, self.logits, self.baseline, self.weights)
        return auc_difference(self.labels, self.logits, self.baseline, self.classes.index(self.signal), self.weights)

    @cached_property
    def effective_jets(self) -> dict[str, float] | None:
        """Per class, the number of unweighted jets with the same statistical error; None without weights."""
        if self.weights is None:
            return None
        return {name: effective_number(self.weights[self.labels == k]) for k, name in enumerate(self.classes)}

    def metrics(self) -> dict[str, Any]:
        """All metrics as JSON data; infinite and undefined numbers are null."""
        reports = {name: {key: _json(e) for key, e in report.items()} for name, report in self.reports.items()}
        gain = {"auc_gain_over_multiplicity": _json(self.gain)}
        role = {"background": self.classes[0]} if self.signal is None else {"signal": self.signal}
        about = {"jets": len(self.labels), **role}
        about |= {} if self.effective_jets is None else {"effective_jets": self.effective_jets}
        return {**about, **reports, **gain, "cost": self.cost, "beta": self.beta}

    def table(self, name: str, training: Mapping[str, Any] | None = None) -> str:
        """Markdown table of the main metrics; below it, the AUC gain over multiplicity and, if known, training cost."""
        cost, reports = self.cost, self.reports
        price = [f"{cost['parameters']:,}", f"{cost['flops_per_jet'] / 1e6:.1f}", f"{cost['jets_per_second']:.0f}"]
        fitted = str(2 * len(self.classes) - 2)  # slope and intercept of each class except the first
        columns = [heading(key) for key in reports["tagger"]]
        rows = [
            ["", *columns, "parameters", "MFLOP/jet", "jets/s"],
            [name, *map(str, reports["tagger"].values()), *price],
            ["multiplicity alone", *map(str, reports["multiplicity"].values()), fitted, "-", "-"],
        ]
        role = f"background: {self.classes[0]}" if self.signal is None else f"signal: {self.signal}"
        what = "AUC" if self.signal else "Macro AUC"
        lines = f"{markdown(rows)}\n\n{what} above multiplicity: {self.gain} ({len(self.labels):,} jets, {role})"
        if self.effective_jets is not None:
            numbers = ", ".join(f"{number:,.0f} {name}" for name, number in self.effective_jets.items())
            lines += f"\n\nJets are weighted. Effective numbers of jets, (sum w)^2 / sum w^2: {numbers}"
        if training and "seconds" in training:
            lines += (
                f"\n\nTraining, validation included: {training['seconds']:,.0f} s, epochs: {training['epochs']}, "
                f"{training['jets_per_second']:,.0f} jets/s"
            )
            if "peak_memory_mb" in training:
                lines += f", peak memory {training['peak_memory_mb']:,.0f} MB"
        return lines

    def write(
        self, folder: Path, name: str, fingerprints: dict[str, str], training: Mapping[str, Any] | None = None
    ) -> None:
        """Write ``metrics.json``, ``report.md``, ``predictions.npz`` and figures.

        Args:
            folder: output folder.
            name: name of the tagger.
            fingerprints: fingerprints of the jet files, by name.
            training: cost of the training, see :func:`iagraph.train.progress.training_record`.
        """
        (folder / "report.md").write_text(self.table(name, training) + "\n", encoding="utf-8")
        arrays = {"label": self.labels, "logits": self.logits, "multiplicity": self.multiplicity}
        arrays |= {} if self.weights is None else {"weight": self.weights}
        np.savez_compressed(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
        for file, figure in self.figures(name).items():
            save_figure(figure, folder / "figures" / file)
        content = {"data": fingerprints, **({"training": training} if training else {}), **self.metrics()}
        metrics = json.dumps(content, indent=2, allow_nan=False)
        write_text(folder / "metrics.json", metrics + "\n")  # last: its presence marks a complete evaluation

    def figures(self, name: str) -> dict[str, Figure]:
        """Figures by file name: ROC curves, with score histograms or, for more than two classes, a confusion matrix."""
        if self.signal is None:
            return {
                "roc": class_roc_curves(self.labels, self.logits, self.classes, self.signal_efficiency, self.weights),
                "confusion": confusion(self.labels, self.logits, self.classes, self.weights),
            }
        signal = self.classes.index(self.signal)
        curves: dict[str, tuple[ArrayLike, ArrayLike]]
        curves = {name: (self.labels, self.logits), "multiplicity alone": (self.labels, self.baseline)}
        return {
            "roc": roc_curves(curves, signal, self.weights),
            "scores": score_histograms(self.labels, self.logits, self.classes, signal, self.weights),
        }


def evaluate_tagger(
    tagger: Tagger,
    trainer: Trainer,
    loader: JetLoader,
    jets: JetSource,
    baseline: MultiplicityTagger,
    config: DataConfig,
) -> Evaluation:
    """Evaluate a tagger on all jets of a loader, which must yield ``jets`` in order."""
    batches = trainer.predict(tagger, loader)
    logits = torch.cat([batch for batch in batches or [] if isinstance(batch, torch.Tensor)]).cpu().numpy()
    cost = {
        "parameters": sum(parameter.numel() for parameter in tagger.model.parameters()),
        "flops_per_jet": flops_per_jet(tagger.model, jets[evenly_spaced(len(jets), FLOP_JETS)]),
        "jets_per_second": tagger.jets_per_second(),
        "measured_on": {
            "device": tagger.predicted_on,
            "threads": torch.get_num_threads(),
            "batch_size": tagger.batch_size,
        },
    }
    multiplicity = jets.multiplicity.numpy()
    scores = (jets.label.numpy(), multiplicity, logits, baseline(multiplicity))
    about = (jets.classes, config.signal, config.signal_efficiency)
    weights = None if jets.weight is None else jets.weight.numpy()
    return Evaluation(*scores, *about, cost, betas(tagger.model), weights)


def flops_per_jet(model: nn.Module, jets: JetBatch) -> float:
    """Mean floating-point operations per jet in batches of 64, counting two per multiply-add
    (:func:`~iagraph.models.costs.multiply_adds`).
    """
    batches = (jets.part(begin, min(begin + 64, len(jets))) for begin in range(0, len(jets), 64))
    return 2 * sum(multiply_adds(model, batch) for batch in batches) / len(jets)


def heading(key: str) -> str:
    """Column heading of a metric, as in ``1/eB Hbb at 0.5``."""
    what, _, name = key.partition("/")
    if what.startswith("rejection_at_"):
        return " ".join(["1/eB", *([name] if name else []), "at", what.removeprefix("rejection_at_")])
    return {"auc": "AUC"}.get(what, what)


def _json(estimate: Estimate) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in estimate._asdict().items()}
