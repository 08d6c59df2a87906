"""The study of mechanisms: iagraph study mechanism RUN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from iagraph.jets import JetBatch
from iagraph.metrics import Estimate
from iagraph.studies.mechanism.depth_tables import depths_section
from iagraph.studies.mechanism.effects import Array, Truth
from iagraph.studies.mechanism.figures import feature_bars
from iagraph.studies.mechanism.head_tables import AUC, DIFFERENCE, circuit_section, heads_section, patching_section
from iagraph.studies.mechanism.heads import CLEAN, ablate_heads, mean_sums
from iagraph.studies.mechanism.notes import notes
from iagraph.studies.mechanism.pair_ablation import VARIANTS, ablate_pair_features
from iagraph.studies.mechanism.probes import FEWEST, FOLDS
from iagraph.studies.of_run import OpenRun, Plan, open_run
from iagraph.studies.sections import Section, Table, write_section
from iagraph.train.folder import RunError


def study(plan: Plan) -> Path:
    """Ablation and patching of heads, ablation of pair features, logit lens and probes of one run, written.

    Raises:
        RunError: there are several runs, or too few jets of a class; or as :func:`~iagraph.studies.of_run.open_run`.
    """
    if len(plan.runs) != 1:
        raise RunError(f"the study of mechanisms takes one run, not {len(plan.runs)}: run it once for each")
    run = open_run(plan.runs[0], plan.jets)
    labels = np.concatenate([jets.y.numpy() for jets in run.batches if jets.y is not None])
    fewest = int(np.bincount(labels, minlength=len(run.run.classes)).min())
    if fewest < FOLDS or len(labels) < 2 * FEWEST:
        raise RunError(
            f"{run.path}: {len(labels)} jets, {fewest} of the rarest class, are too few for probes; take more (--jets)"
        )
    signal = run.run.config.data.signal
    truth = Truth(labels, None if signal is None else run.run.classes.index(signal))
    batches = [jets.to(run.device) for jets in run.batches]
    means = mean_sums(run.model, batches)
    single = ablate_heads(run.model, batches, means)
    parts = [
        heads_section(run, single, truth),
        circuit_section(run, batches, means, single, truth),
        patching_section(run, batches, truth),
        _pair_features(run, batches, single[CLEAN], truth),
        depths_section(run, batches, truth),
    ]
    tables = {name: table for part in parts for name, table in part.tables.items()}
    figures = {name: figure for part in parts for name, figure in part.figures.items()}
    numbers = {name: number for part in parts for name, number in part.numbers.items()}
    title = f"Mechanism: what heads and pair features do, and what layers know ({run.name})"
    section = Section(title, tables, figures, notes(run.model, tables, run.jets), numbers)
    return write_section(plan.folder, section, [run], plan.command)


def _pair_features(run: OpenRun, batches: Sequence[JetBatch], clean: Array, truth: Truth) -> Section:
    ablated = ablate_pair_features(run.model, batches)
    if not ablated:
        return Section("", {}, {}, [])
    rows: list[dict[str, Any]] = []
    figures = {}
    bars: dict[str, dict[str, dict[str, dict[str, Estimate]]]] = {}
    for (part, name, variant), logits in ablated.items():
        row: dict[str, Any] = {"read by": part, "feature": name, "variant": variant}
        row |= {AUC: truth.auc_change(logits, clean), DIFFERENCE: truth.mean_change(logits, clean)}
        rows.append(row)
        panels = bars.setdefault(part, {what: {each: {} for each in VARIANTS} for what in (AUC, DIFFERENCE)})
        for what in (AUC, DIFFERENCE):
            panels[what][variant][name] = row[what]
    for part, panels in bars.items():
        caption = f"What is lost when a pair feature is replaced ({part}): by a typical value, or shuffled within jets."
        figures[f"pair_features_{part.replace(' ', '_')}"] = (feature_bars(panels), caption)
    return Section("", {"pair_features": Table("Ablation of single pair features.", rows)}, figures, [])
