"""Judgement of a trained tagger: its numbers beside those of constituent multiplicity, predictions and figures."""

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
from iagraph.files import write_text
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate, auc_difference, classification_report, effective_number, macro_auc_difference
from iagraph.models.accounts import multiply_adds
from iagraph.plotting import save_figure
from iagraph.train.config import DataConfig
from iagraph.train.figures import class_roc_curves, confusion, roc_curves, score_histograms
from iagraph.train.module import Tagger, betas

FLOP_JETS = 256


@dataclass(frozen=True)
class MultiplicityTagger:
    """Logistic regression on the number of particles alone: what any tagger must beat.

    Attributes:
        slopes, intercepts: one number per class, 0 for the first; the logit of class k against the first is
            ``slopes[k] * multiplicity + intercepts[k]``.
    """

    slopes: Sequence[float]
    intercepts: Sequence[float]

    @classmethod
    def fit(cls, jets: JetSource) -> MultiplicityTagger:
        """Fits it to jets, some of each class, weighted if they have weights."""
        # Of a hundred million jets, some thousand pairs of multiplicity and class are distinct.
        classes = len(jets.classes)
        weights = None if jets.weight is None else jets.weight.double()
        counts = torch.bincount(jets.multiplicity * classes + jets.label, weights)
        pairs = counts.nonzero().squeeze(1)
        multiplicity, label = pairs // classes, pairs % classes
        regression = LogisticRegression(solver="newton-cg", tol=1e-10, max_iter=1000)
        fit = regression.fit(multiplicity[:, None].numpy(), label.numpy(), sample_weight=counts[pairs].numpy())
        # Of two classes scikit-learn gives the second's numbers, of more those of every class.
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
    """Scores of a tagger on jets, and what they amount to.

    Attributes:
        labels: class of each jet.
        multiplicity: number of particles of each jet.
        logits: of the tagger, shape [jets, classes].
        baseline: logits of multiplicity alone, shape [jets, classes].
        classes: names of the classes; of more than two the first is the background.
        signal: name of the signal class, for two classes.
        signal_efficiency: at which signal efficiency to quote the rejection of a class, for more classes.
        cost: parameters, FLOPs per jet, jets per second, and on what the last was measured.
        beta: the learned beta of each attention layer.
        weights: of the jets, if they do not count alike.
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
        """Accuracy, AUC and rejections with errors, of the tagger and of multiplicity."""
        scores: dict[str, ArrayLike] = {"tagger": self.logits, "multiplicity": self.baseline}
        about = (self.classes, self.signal, self.signal_efficiency)
        return {
            name: classification_report(self.labels, values, *about, self.weights) for name, values in scores.items()
        }

    @cached_property
    def gain(self) -> Estimate:
        """AUC of the tagger minus that of multiplicity on the same jets; of more than two classes the macro AUC."""
        if self.signal is None:
            return macro_auc_difference(self.labels, self.logits, self.baseline, self.weights)
        return auc_difference(self.labels, self.logits, self.baseline, self.classes.index(self.signal), self.weights)

    @cached_property
    def effective_jets(self) -> dict[str, float] | None:
        """By class, how many jets of equal weight have the same statistical error; None without weights."""
        if self.weights is None:
            return None
        return {name: effective_number(self.weights[self.labels == k]) for k, name in enumerate(self.classes)}

    def metrics(self) -> dict[str, Any]:
        """All numbers, as JSON can hold them: an infinite or undefined number is null."""
        reports = {name: {key: _json(e) for key, e in report.items()} for name, report in self.reports.items()}
        gain = {"auc_gain_over_multiplicity": _json(self.gain)}
        role = {"background": self.classes[0]} if self.signal is None else {"signal": self.signal}
        about = {"jets": len(self.labels), **role}
        about |= {} if self.effective_jets is None else {"effective_jets": self.effective_jets}
        return {**about, **reports, **gain, "cost": self.cost, "beta": self.beta}

    def table(self, name: str) -> str:
        """The same as a Markdown table."""
        cost, reports = self.cost, self.reports
        price = [f"{cost['parameters']:,}", f"{cost['flops_per_jet'] / 1e6:.1f}", f"{cost['jets_per_second']:.0f}"]
        fitted = str(2 * len(self.classes) - 2)  # a slope and an intercept for each class but the first
        columns = [heading(key) for key in reports["tagger"]]
        rows = [
            ["", *columns, "parameters", "MFLOP/jet", "jets/s"],
            ["---"] * (len(columns) + 4),
            [name, *map(str, reports["tagger"].values()), *price],
            ["multiplicity alone", *map(str, reports["multiplicity"].values()), fitted, "-", "-"],
        ]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        role = f"background: {self.classes[0]}" if self.signal is None else f"signal: {self.signal}"
        what = "AUC" if self.signal else "Macro AUC"
        lines = f"{table}\n\n{what} above multiplicity: {self.gain} ({len(self.labels):,} jets, {role})"
        if self.effective_jets is not None:
            numbers = ", ".join(f"{number:,.0f} {name}" for name, number in self.effective_jets.items())
            lines += f"\n\nJets are weighted. Effective numbers, (sum w)^2 / sum w^2: {numbers}"
        return lines

    def write(
        self, folder: Path, name: str, fingerprints: dict[str, str], about: Mapping[str, Any] | None = None
    ) -> None:
        """Writes ``metrics.json``, ``report.md``, ``predictions.npz`` and figures.

        Args:
            folder: where to.
            name: what to call the tagger.
            fingerprints: of the files that hold the jets.
            about: what else ``metrics.json`` is to say.
        """
        (folder / "report.md").write_text(self.table(name) + "\n", encoding="utf-8")
        arrays = {"label": self.labels, "logits": self.logits, "multiplicity": self.multiplicity}
        arrays |= {} if self.weights is None else {"weight": self.weights}
        np.savez_compressed(folder / "predictions.npz", **arrays)  # type: ignore[arg-type]
        for file, figure in self.figures(name).items():
            save_figure(figure, folder / "figures" / file)
        metrics = json.dumps({"data": fingerprints, **(about or {}), **self.metrics()}, indent=2, allow_nan=False)
        write_text(folder / "metrics.json", metrics + "\n")  # last: where it is, all of it is there

    def figures(self, name: str) -> dict[str, Figure]:
        """Figures by the name of their file: ROC curves, and score histograms or, of more than two classes, confusion.

        Args:
            name: what to call the tagger.
        """
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
    """Scores of all jets of a loader, which holds ``jets`` in their order."""
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
    """Floating-point operations, two per multiply-add (:func:`~iagraph.models.accounts.multiply_adds`); mean over jets
    in one batch.
    """
    return 2 * multiply_adds(model, jets) / len(jets)


def evenly_spaced(jets: int, number: int) -> list[int]:
    """So many of the jets, evenly spaced: a file may be sorted by class, and classes differ in multiplicity."""
    return np.unique(np.linspace(0, jets - 1, number).astype(int)).tolist()


def heading(key: str) -> str:
    """The heading of a number of the report, as in ``1/eB Hbb at 0.5``."""
    what, _, name = key.partition("/")
    if what.startswith("rejection_at_"):
        return " ".join(["1/eB", *([name] if name else []), "at", what.removeprefix("rejection_at_")])
    return {"auc": "AUC"}.get(what, what)


def _json(estimate: Estimate) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in estimate._asdict().items()}
