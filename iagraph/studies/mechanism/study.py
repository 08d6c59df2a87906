"""The study of mechanisms: effects of single heads and pair features, and what layers encode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from iagraph.interpret.heads import CLEAN, ablate_heads, mean_sums
from iagraph.interpret.probes import FEWEST, FOLDS
from iagraph.interpret.recording import AttentionModel
from iagraph.models import CascadedIAFormer, GatedIAFormer, ParticleTransformer
from iagraph.nn import SoftmaxDifference
from iagraph.studies.mechanism.measure import (
    circuit_section,
    depths_section,
    heads_section,
    pair_features_section,
    patching_section,
)
from iagraph.studies.report import Section, write_study
from iagraph.studies.runs import Plan, open_one
from iagraph.tables import Table
from iagraph.train.folder import RunError


def study(plan: Plan) -> Path:
    """Ablate and patch heads, ablate pair features, apply logit lens and probes, and write the results, for one run.

    Raises:
        RunError: there are too few jets, in total or of a class; or as in :func:`~iagraph.studies.runs.open_one`.
    """
    run = open_one("mechanism", plan)
    truth, labels = run.truth, run.truth.labels
    fewest = int(np.bincount(labels, minlength=len(run.run.classes)).min())
    if fewest < FOLDS or len(labels) < 2 * FEWEST:
        raise RunError(
            f"{run.path}: {len(labels)} jets, {fewest} of the rarest class, are too few for probes; use more (--jets)"
        )
    batches = [jets.to(run.device) for jets in run.batches]
    means = mean_sums(run.model, batches)
    single = ablate_heads(run.model, batches, means)
    parts = [
        heads_section(run, single, truth),
        circuit_section(run, batches, means, single, truth),
        patching_section(run, batches, truth),
        pair_features_section(run, batches, single[CLEAN], truth),
        depths_section(run, batches, truth),
    ]
    tables = {name: table for part in parts for name, table in part.tables.items()}
    figures = {name: figure for part in parts for name, figure in part.figures.items()}
    numbers = {name: number for part in parts for name, number in part.numbers.items()}
    title = f"Mechanism: what heads and pair features do, and what layers encode ({run.name})"
    section = Section(title, tables, figures, notes(run.model, tables, run.jets), numbers)
    return write_study("mechanism", plan.folder, section, [run], plan.command)


def notes(model: AttentionModel, tables: Mapping[str, Table], jets: int) -> list[str]:
    """Notes on definitions, on the kind of model, and on what could not be measured."""
    lines = [
        f"{jets:,} test jets; errors take jets as independent, those of changes are of paired differences.",
        "Mean logit difference: logit of the own class minus that of the other (of more classes: minus the logarithm "
        "of the sum of the others' exponentials), mean over the jets of each class, then over classes.",
        "Ablation replaces the weighted sum of values of a head, before the layer's last linear map, whose bias stays: "
        "by zero, or by its mean over all particles of these jets. Later layers see the effect.",
        "Order of importance: loss of mean logit difference without only this head, on one half of the jets; redundant "
        "heads look unimportant. Recovery of AUC: of the part above one half, and, as in arXiv 2605.09881, of all of "
        "it, which is 0.5 / AUC without any information.",
        "Patching: the donor is a jet of another class; a particle takes the activation of the donor's particle of the "
        "same rank in pT, or keeps its own if the donor has fewer. Later attention keeps the pairs of the clean jet: "
        "a patch of all vectors need not reach 1 before the last block, nor after it if multiplicities differ. Shown "
        "is the total effect through all later layers, not that of single paths.",
        f"Probe of the class: logistic regression on the mean vector of a jet, {FOLDS}-fold cross-validated. Probes of "
        "observables: ridge regression, fitted to one half of the jets and evaluated on the other, with bootstrap "
        "errors. 'inputs' are means of the scaled node features; the untrained model has the same architecture.",
        "Observables: iagraph.observables; tau_N with axes from exclusive kT subjets; beta = 1 in all.",
    ]
    if any(isinstance(conv, SoftmaxDifference) for conv in model.convs()):
        lines.append(
            "Differential attention: a head is its first map minus beta times its second; both are ablated and patched "
            "together. Weights do not depend on particles' vectors, so a change does not affect later attention."
        )
    if isinstance(model, ParticleTransformer):
        lines.append("Rows 'class' are the heads of class attention, of one vector per jet; their means are over jets.")
    if isinstance(model, GatedIAFormer | CascadedIAFormer):
        lines.append("The gate and the encoder read the same pair features: ablated in both, and in each separately.")
    if "pair_features" in tables:
        lines.append(
            "A typical value of a pair feature is the one that the model scales to zero: the centre of its fixed "
            "scaling or, in ParT, the running mean of the batch norm. Shuffling permutes the values among a jet's "
            "pairs, self-pairs separately."
        )
    else:
        lines.append("This model reads no pair features by name: nothing to ablate.")
    if not any(name.startswith("tau") for row in tables["observables"].rows for name in row):
        lines.append("N-subjettiness is not probed: its axes need FastJet (pip install fastjet).")
    return lines
