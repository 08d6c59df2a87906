"""The study of attribution: relevance of particles by several methods, their faithfulness, and displays of jets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from iagraph.estimates import Truth, mean, ratio
from iagraph.interpret.deletion import FRACTIONS, decided, faithfulness, relative_area
from iagraph.interpret.display import THRESHOLD, draw_jets, shown_jet
from iagraph.interpret.live import live_jet
from iagraph.interpret.particles import SPECIES
from iagraph.interpret.profiles import HARDEST, relative_relevance
from iagraph.interpret.recording import record_attention
from iagraph.interpret.relevance import STEPS, evidence
from iagraph.jets import JetBatch
from iagraph.metrics import Estimate
from iagraph.studies.attribution.figures import Example, deletion_curves, relevance_maps, relevance_profiles
from iagraph.studies.attribution.measure import (
    CONTROLS,
    LEAST,
    METHODS,
    MOST,
    Measured,
    explained_classes,
    left,
    measure,
    relevances,
)
from iagraph.studies.report import Section, write_study
from iagraph.studies.runs import OpenRun, Plan, open_one
from iagraph.tables import Cell, Table

QUOTED = 0.2
"""Fraction of particles dropped for the AUC in the table."""

EXAMPLES = 8
"""Largest number of jets drawn: two per class, or fewer with many classes."""


def study(plan: Plan) -> Path:
    """Measure the relevance of particles by several methods and how faithful each is; write tables, figures, displays.

    Raises:
        RunError, ConfigError, StoreError: as in :func:`~iagraph.studies.runs.open_one`.
    """
    run = open_one("attribution", plan)
    found = measure(run)
    examples, displays = _examples(run)
    tables = {"deletion": deletion_table(found, run.truth), **fraction_tables(found)}
    shown, titles = [example.jet for example in examples], [example.title for example in examples]
    figures = {
        "deletion": (
            deletion_curves(found, run.truth),
            "Evidence for a decision, and AUC, when particles are dropped.",
        ),
        "maps": (
            relevance_maps(examples),
            "Relevance of the particles of some jets; marker areas are proportional to pT, kT subjets are shaded.",
        ),
        "profiles": (
            relevance_profiles(found),
            "Relevance relative to its jet, where the mean of |r| is 1, against pT and the distance to the axis.",
        ),
        "attention": (
            draw_jets(shown, titles),
            f"Attention of the last layer, by the head of largest |weight| of each edge, from {THRESHOLD} on; marker "
            "areas are proportional to pT, kT subjets are shaded.",
        ),
    }
    section = Section("Attribution", tables, figures, _notes(run.run.config.data.signal), live=displays)
    return write_study("attribution", plan.folder, section, [run], plan.command)


def _examples(run: OpenRun) -> tuple[list[Example], list[str]]:
    jets = _typical_jets(run).to(run.device)
    with torch.no_grad():
        recording = record_attention(run.model, jets)
    explained = explained_classes(run, recording.logits)
    relative = {
        name: relative_relevance(relevance, jets).cpu().double()
        for name, relevance in relevances(run.model, jets, explained).items()
    }
    assert jets.y is not None
    examples, displays = [], []
    for number, label in enumerate(jets.y.tolist()):
        jet = shown_jet(jets, number, recording)
        title = f"{run.run.classes[label]} {number + 1}"
        mine = slice(*jets.ptr[number : number + 2].tolist())
        examples.append(Example(jet, title, {name: values[mine].numpy() for name, values in relative.items()}))
        displays.append(live_jet(jet, f"{run.name}: {title}"))
    return examples, displays


def _typical_jets(run: OpenRun) -> JetBatch:
    """Jets with multiplicity nearest to the median of their class, at most :data:`EXAMPLES`, as a batch with labels."""
    jets = JetBatch.concatenate(run.batches)
    assert jets.y is not None
    sizes = jets.ptr.diff()
    of_each = max(1, min(2, EXAMPLES // len(run.run.classes)))
    chosen: list[int] = []
    for label in range(min(len(run.run.classes), EXAMPLES)):
        mine = (jets.y == label).nonzero().squeeze(1)
        distance = (sizes[mine] - sizes[mine].median()).abs()
        chosen += mine[distance.argsort(stable=True)[:of_each]].tolist()
    return JetBatch.concatenate([jets.part(number, number + 1) for number in chosen])


def deletion_table(found: Measured, truth: Truth) -> Table:
    """Table of areas under deletion curves, and AUCs."""
    rows: list[dict[str, Cell]] = []
    quoted = f"AUC, {QUOTED:.0%} dropped"

    def auc(order: tuple[str, str]) -> Estimate:
        return truth.auc(found.logits[order][FRACTIONS.index(QUOTED)].numpy())

    for name in METHODS:
        most, least = left(found, (name, MOST)), left(found, (name, LEAST))
        value = evidence(found.logits[name, MOST][0], found.classes)
        rows.append(
            {
                "order": name,
                "area, most relevant first": relative_area(most),
                "area, least relevant first": relative_area(least),
                "faithfulness": faithfulness(most, least),
                quoted: auc((name, MOST)),
                "sum of relevance / evidence": ratio(decided(value) * found.sums[name], value.abs()),
                "absolute rest / evidence": ratio((value - found.sums[name]).abs(), value.abs()),
            }
        )
    for name in CONTROLS:
        row = dict.fromkeys(rows[0]) | {"order": name, quoted: auc((name, ""))}
        rows.append(row | {"area, most relevant first": relative_area(left(found, (name, "")))})
    return Table(
        "Deletion test: remaining evidence for a decision, averaged over the fractions of particles dropped (1: no "
        "loss); faithfulness is the area between the two curves of a method. Last columns: sum of a jet's relevance, "
        "and what it misses, relative to the evidence.",
        rows,
    )


def fraction_tables(found: Measured) -> dict[str, Table]:
    """Tables of the fraction of relevance in the k hardest particles and, if any are known, in species and subjets."""
    relevance, particles = found.relevance, found.particles
    fractions = {key: {name: relevance[name][key] for name in METHODS} for key in particles if key in relevance["LRP"]}
    hardest = {"pT": particles["pt hardest"], "particles": particles["hardest"], **fractions["hardest"]}
    caption = "Fraction of absolute relevance in the k particles of highest pT, mean over jets."
    tables = {"hardest": Table(caption, _fraction_rows("hardest", HARDEST, hardest))}
    if "species" in particles:
        columns = {"particles": particles["species"], "pT": particles["pt species"], **fractions["species"]}
        columns |= {f"{name}, signed": values for name, values in fractions["signed species"].items()}
        there = [place for place in range(len(SPECIES)) if float(particles["species"][:, place].nansum()) > 0]
        names = [SPECIES[place] for place in there]
        rows = _fraction_rows("species", names, {name: values[:, there] for name, values in columns.items()})
        caption = (
            "Fraction of absolute relevance by species, mean over jets; signed: for minus against the class, over the "
            "absolute relevance of all particles."
        )
        tables["species"] = Table(caption, rows)
    if "subjet" in particles:
        columns = {"particles": particles["subjet"], "pT": particles["pt subjet"], **fractions["subjet"]}
        caption = "Fraction of absolute relevance in the two kT subjets of a jet, mean over jets that have two."
        tables["subjets"] = Table(caption, _fraction_rows("subjet", ("harder", "softer", "none"), columns))
    return {name: table for name, table in tables.items() if table.rows}


def _fraction_rows(what: str, names: Sequence[str | int], columns: Mapping[str, Tensor]) -> list[dict[str, Cell]]:
    """A row per place, with means over jets of columns of shape [jets, places]; NaN is ignored."""
    known = {name: [mean(each[~each.isnan()]) for each in values.unbind(1)] for name, values in columns.items()}
    return [
        {what: name} | {column: values[place] for column, values in known.items()} for place, name in enumerate(names)
    ]


def _notes(signal: str | None) -> list[str]:
    of = "the class that the model predicts for a jet" if signal is None else f"'{signal}'"
    return [
        f"Relevance explains the evidence for {of}: its logit minus the mean of all others. In the deletion test its "
        "sign follows the decision of the model, for or against that class.",
        "Grad-CAM: last block, without ReLU. Gradient x input, integrated gradients (from features at the centres of "
        f"their scales, {STEPS} points) and LRP: scaled node features. Pair features come from momenta and are held "
        "constant in all of them: their effect through attention is not attributed.",
        "LRP: attention weights (signed ones, too), denominators of norms and gates held constant (arXiv 2202.07304). "
        "Its sum misses what biases, and the class token of ParT, add to the evidence.",
        "In the deletion test, momentum, axis and pair features are recomputed from the kept particles. Errors take "
        "jets as independent; those of areas and fractions are of ratios of sums over jets.",
        "Dropping particles changes the jet: compare with dropping at random. If a model relies on multiplicity, each "
        "particle of a jet counts for the same class.",
        "Weights of differential attention are signed: displays show their sign by colour and their size by width.",
    ]
