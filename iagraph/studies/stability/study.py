"""The study of stability: effects of seeds, training jets and measurement errors on outputs of trained models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import softmax

from iagraph.estimates import Array, Truth, mean_over_runs
from iagraph.metrics import Estimate, accuracy
from iagraph.studies.report import Section, write_study
from iagraph.studies.runs import OpenRun, Plan, check_same_jets, open_runs
from iagraph.studies.stability.figures import response_figure, spread_figure
from iagraph.studies.stability.measure import (
    SEEDS,
    Group,
    Response,
    Spread,
    deviations,
    grouped,
    logits_of,
    responses,
    spread,
)
from iagraph.tables import Cell, Table


def study(plan: Plan) -> Path:
    """Write the effects of seeds, training jets and measurement errors on outputs of models, with or without attention.

    Raises:
        RunError: a run is given twice or cannot be opened, or runs have different jets.
    """
    runs = open_runs("stability", plan, needs_attention=False)
    check_same_jets(runs)
    groups, jets = grouped(runs), runs[0].truth
    logits = np.stack([logits_of(run) for run in runs])
    found = [responses(run, before) for run, before in zip(runs, logits, strict=True)]
    several = [group for group in groups if len(group.runs) > 1]
    spreads = {group.name: spread(logits[group.runs], jets) for group in several}
    tables = {
        "runs": Table("Each run on these jets.", run_rows(runs, groups, logits)),
        "response": Table(
            "Outputs for the same jets measured differently, compared with those for the unchanged jets; mean over the "
            "runs of a group.",
            response_rows(groups, found),
        ),
    }
    figure = response_figure({group.name: [found[run] for run in group.runs] for group in groups})
    figures = {"response": (figure, "Response of the outputs to changes of the jets. Dots: single runs.")}
    if spreads:
        tables = {"spread": Table("Runs that differ only by seed.", spread_rows(several, spreads))} | tables
        profiles = {group.name: _profile(logits[group.runs], jets) for group in several}
        caption = "Differences between runs that differ only by seed. Below: where the probability varies."
        figures = {"spread": (spread_figure(spreads, profiles), caption)} | figures
    each_run = {run.name: [each._asdict() for each in mine] for run, mine in zip(runs, found, strict=True)}
    notes, numbers = _notes(groups, jets), {"responses": each_run}
    section = Section("Stability under seeds and the measurement", tables, figures, notes, numbers)
    return write_study("stability", plan.folder, section, runs, plan.command)


def run_rows(runs: Sequence[OpenRun], groups: Sequence[Group], logits: Array) -> list[dict[str, Cell]]:
    """A row per run with its group, number of training jets, AUC and accuracy."""
    rows: list[dict[str, Cell]] = []
    for group in groups:
        for place in group.runs:
            jets, mine = runs[place].truth, logits[place]
            row: dict[str, Cell] = {"run": runs[place].name, "group": group.name, "training jets": group.training_jets}
            rows.append(row | {"AUC": jets.auc(mine), "accuracy": accuracy(jets.labels, mine)})
    return rows


def spread_rows(groups: Sequence[Group], spreads: dict[str, Spread]) -> list[dict[str, Cell]]:
    """A row per group with the spread of its runs."""
    rows: list[dict[str, Cell]] = []
    for group in groups:
        found = spreads[group.name]
        row: dict[str, Cell] = {"group": group.name, "runs": len(group.runs), "training jets": group.training_jets}
        for key, values in (("AUC", found.auc), ("accuracy", found.accuracy)):
            # Error of a standard deviation of normally distributed values.
            error = values.spread / (2 * (len(values.values) - 1)) ** 0.5
            row |= {key: values.mean, f"{key}, spread": Estimate(values.spread, error)}
        row |= {"st. dev. of probability": found.deviation, "|difference| of two": found.variation}
        rows.append(row | {"flips": found.flip_rate, "rank correlation": found.rank_correlation})
    return rows


def response_rows(groups: Sequence[Group], found: Sequence[Sequence[Response]]) -> list[dict[str, Cell]]:
    """A row per change of the jets and per group, with the effect averaged over the runs of the group."""
    rows: list[dict[str, Cell]] = []
    for place, each in enumerate(found[0]):
        for group in groups:
            mine = [found[run][place] for run in group.runs]
            row: dict[str, Cell] = {"change": each.kind, "size": each.size, "group": group.name}
            row |= {"change of AUC": mean_over_runs([one.auc_change for one in mine])}
            row |= {"of accuracy": mean_over_runs([one.accuracy_change for one in mine])}
            row |= {"|change of probability|": mean_over_runs([one.variation for one in mine])}
            rows.append(row | {"flips": mean_over_runs([one.flip_rate for one in mine])})
    return rows


def _profile(logits: Array, jets: Truth) -> tuple[Array, Array]:
    true = softmax(logits, axis=-1)[:, np.arange(len(jets.labels)), jets.labels]
    return true.mean(axis=0), deviations(logits, jets.labels)


def _notes(groups: Sequence[Group], jets: Truth) -> list[str]:
    several = any(len(group.runs) > 1 for group in groups)
    what = "the signal's" if jets.signal is not None else "the mean over the classes, each against all others"
    notes = [
        f"{len(jets.labels):,} test jets, the same for all runs; AUC: {what}",
        "groups: runs whose configurations differ only by seed, name and output",
        f"random changes: mean over {SEEDS} seeds, the same for all runs; pT times a normal number around 1, rapidity "
        "and phi plus normal numbers of the given size; a jet keeps at least its hardest particle; all features, "
        "including those of the jet, are recomputed from the changed particles; track parameters stay",
        "|change of probability|: of the signal, mean over jets; of more than two classes half the sum of all "
        "|changes|, one minus the overlap; flips: fraction of jets whose most probable class changes",
        "errors of responses: the paired error from the finite number of jets (mean over the runs) and the spread over "
        "the runs of the group divided by the root of their number, added in quadrature",
    ]
    if several:
        notes.append(
            "spread: standard deviation over runs; st. dev. of probability: that of the true class of a jet over the "
            "runs, divided by c4 to remove the bias of few runs, mean over jets; |difference|, flips and rank "
            "correlation (Spearman's, of log-odds): mean over pairs of runs; errors from the finite number of jets, "
            "not of seeds"
        )
    alone = [group.name for group in groups if len(group.runs) == 1]
    if alone:
        notes.append(f"no spread over seeds, which needs several runs of a configuration: {', '.join(alone)}")
    return notes
