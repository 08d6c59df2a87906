"""A trained model, pruned by rules and by controls: what is left of its edges, of its cost and of its performance.

The folder of the study holds ``table.md``, ``table.csv`` (full precision), ``report.json`` (command, versions, machine,
jets, options, shares of survivors), ``figure`` and ``survivors`` as PNG and PDF, and ``retrained/``, a run folder for
each rule with which the model was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from iagraph.data import JetSource
from iagraph.jets import JetBatch
from iagraph.machine import machine
from iagraph.metrics import Estimate, auc_difference, classification_report, macro_auc_difference
from iagraph.plotting import save_figure
from iagraph.studies.measuring import (
    TIMED_JETS,
    how_measured,
    open_studied_jets,
    seconds_per_jet,
    some_batches,
    where_measured,
)
from iagraph.studies.pruning_figures import performance_against_cost, survivor_distributions
from iagraph.studies.pruning_notes import notes
from iagraph.studies.pruning_plan import PlannedRule, Variant, prunable, retrained_variants, variants, with_rule
from iagraph.studies.pruning_retraining import plan_retraining, retrain
from iagraph.studies.pruning_tables import Row, pruning_csv, pruning_markdown
from iagraph.studies.survivors import Survivors, find_survivors, shares, shares_cells
from iagraph.train.datamodule import fingerprints, open_role
from iagraph.train.evaluation import FLOP_JETS, evenly_spaced, flops_per_jet
from iagraph.train.folder import Run, alone, load_run, make_folder

SURVIVOR_JETS = 500


@dataclass(frozen=True)
class PruningStudy:
    """What is asked for.

    Attributes:
        run: folder of a finished run.
        folder: where all of it goes.
        rules: the rules that are tried.
        survivors: the rule whose survivors are looked at.
        jets: number of test jets.
        epochs: for which the model is trained on with each rule; None for not at all.
        command: what was typed, for the record.
    """

    run: Path
    folder: Path
    rules: Sequence[PlannedRule]
    survivors: PlannedRule
    jets: int = 2000
    epochs: int | None = None
    command: str = ""


def prune(study: PruningStudy) -> Path:
    """Prunes a trained model in all of these ways, and writes tables and figures.

    Returns:
        The folder of the study.

    Raises:
        RunError: the folder holds no finished run, its model has no edges to prune or is not trained with rules, there
            are too few jets, or another process works in the folder of the study. All of these are found before
            anything is written. Also, later: a training failed.
        ConfigError, StoreError: the configuration of the run or its test jets are wrong.
    """
    run = load_run(study.run)
    tagger = prunable(run, study.run)
    jets = open_studied_jets(study.run, run, study.jets)
    plans = {}
    if study.epochs is not None:
        plans = plan_retraining(study.run, run.config, study.rules, study.epochs, study.folder / "retrained")
    device = where_measured([study.run])
    make_folder(study.folder, exist_ok=True)
    with alone(study.folder):
        # The other models come first: they take long.
        models = [*variants(tagger, study.rules), *retrained_variants(retrain(plans))]
        batches = some_batches(jets, study.jets)
        rows = measure(models, jets, batches, run, device)
        number = sum(map(len, batches))
        fewer = [batch.to(device) for batch in some_batches(jets, min(SURVIVOR_JETS, number))]
        survivors = find_survivors(with_rule(tagger, study.survivors.rule).to(device), fewer)
        about = notes(study.survivors, run.config, (number, sum(map(len, fewer))), survivors, plans)
        about += [how_measured(min(TIMED_JETS, number), device), *([f"`{study.command}`"] if study.command else [])]
        _write(study, run, number, rows, survivors, about)
    return study.folder


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
    labels = np.concatenate([batch.y.numpy() for batch in batches if batch.y is not None])
    found = []
    for model in models:
        found.append(classify(model.to(device), batches))
        report = _report(run, labels, found[-1].logits)
        print(f"{model}: AUC {report['auc']}", flush=True)
    flops = [flops_per_jet(model, counted) for model in models]
    names = [str(model) for model in models]
    print("measuring times, all of them in turn", flush=True)
    seconds = seconds_per_jet(dict(zip(names, models, strict=True)), dict.fromkeys(names, timed), device)
    rows = []
    for name, model, (logits, kept), cost in zip(names, models, found, flops, strict=True):
        difference = None if model is models[0] else _auc_difference(run, labels, logits, found[0].logits)
        report = _report(run, labels, logits)
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
    """Logits of jets, and the edges that are left of theirs.

    Args:
        model: the model, on the device where this is to be done.
        batches: the jets.
    """
    device = next(model.parameters()).device
    logits, kept, everything = [], [0] * len(model.tagger.convs()), 0
    for batch in batches:
        found, weights = model(batch.to(device), return_attention_weights=True)
        logits.append(found.cpu().numpy())
        kept = [number + alpha.size(0) for number, (_, alpha, _) in zip(kept, weights, strict=True)]
        everything += int(batch.ptr.diff().square().sum())
    return Classified(np.concatenate(logits), tuple(number / max(1, everything) for number in kept))


def _report(run: Run, labels: NDArray[np.int64], logits: NDArray[np.float32]) -> dict[str, Estimate]:
    return classification_report(labels, logits, run.classes, run.config.data.signal, run.config.data.signal_efficiency)


def _auc_difference(
    run: Run, labels: NDArray[np.int64], logits: NDArray[np.float32], others: NDArray[np.float32]
) -> Estimate:
    if run.config.data.signal is None:
        return macro_auc_difference(labels, logits, others)
    return auc_difference(labels, logits, others, run.classes.index(run.config.data.signal))


def _write(
    study: PruningStudy, run: Run, number: int, rows: Sequence[Row], survivors: Survivors, about: Sequence[str]
) -> None:
    data, kinds = run.config.data, shares(survivors)
    report: dict[str, Any] = {
        "command": study.command,
        "run": str(study.run),
        "jets": {"number": number, "files": fingerprints(data.test, open_role(data.test, "test", data))},
        "options": {
            "rules": list(map(str, study.rules)),
            "per_head": study.survivors.rule.per_head,
            "renormalize": study.survivors.rule.renormalize,
            "survivors": str(study.survivors),
            "retrain": study.epochs,
        },
        "survivors": [{key: None if value != value else value for key, value in row.items()} for row in kinds],
        "notes": about,
        "machine": machine(),
        "config": run.config.model_dump(),
    }
    texts = {
        "table.md": pruning_markdown(rows, shares_cells(kinds), about),
        "table.csv": pruning_csv(rows),
        "report.json": json.dumps(report, indent=2, allow_nan=False) + "\n",
    }
    save_figure(performance_against_cost(rows), study.folder / "figure")
    save_figure(
        survivor_distributions(survivors, f"edges between different particles, {study.survivors}"),
        study.folder / "survivors",
    )
    for name, text in texts.items():
        (study.folder / name).write_text(text, encoding="utf-8")
