"""Tables of the study of attribution."""

from __future__ import annotations

import torch
from torch import Tensor

from iagraph.metrics import Estimate, macro_auc, roc_auc
from iagraph.studies.attribution.deletion import FRACTIONS, decided, decision_left, faithfulness, relative_area
from iagraph.studies.attribution.evidence import evidence
from iagraph.studies.attribution.measured import CONTROLS, LEAST, METHODS, MOST, Measured
from iagraph.studies.attribution.profiles import HARDEST
from iagraph.studies.estimates import mean, ratio
from iagraph.studies.sections import Cell, Table
from iagraph.studies.species import SPECIES

QUOTED = 0.2
"""The fraction of particles dropped at which the AUC stands in the table."""


def deletion_table(found: Measured, signal: int | None) -> Table:
    """Areas under deletion curves, and AUCs."""
    rows: list[dict[str, Cell]] = []
    place = FRACTIONS.index(QUOTED)
    for name in METHODS:
        most, least = ((name, first) for first in (MOST, LEAST))
        rows.append(
            {
                "order": name,
                "area, most relevant first": relative_area(left(found, most)),
                "area, least relevant first": relative_area(left(found, least)),
                "faithfulness": faithfulness(left(found, most), left(found, least)),
                f"AUC, {QUOTED:.0%} dropped": auc(found, most, place, signal),
                "sum of relevance / evidence": completeness(found, name),
                "absolute rest / evidence": rest(found, name),
            }
        )
    for name in CONTROLS:
        row = dict.fromkeys(rows[0]) | {
            "order": name,
            "area, most relevant first": relative_area(left(found, (name, ""))),
        }
        rows.append(row | {f"AUC, {QUOTED:.0%} dropped": auc(found, (name, ""), place, signal)})
    return Table(
        "Deletion test: what is left of the evidence for a decision, on average over the fractions of particles "
        "dropped (1: nothing is lost); faithfulness is the area between the two curves of a method. The last columns: "
        "how much of the evidence the relevance of a jet adds up to, and what it misses.",
        rows,
    )


def left(found: Measured, order: tuple[str, str]) -> Tensor:
    """Evidence for the decision after deletion, shape [fractions, jets]."""
    return decision_left(found.logits[order], found.classes)


def auc(found: Measured, order: tuple[str, str], place: int, signal: int | None) -> Estimate:
    """AUC after deletion, of more than two classes the macro average."""
    labels, logits = found.labels.numpy(), found.logits[order][place].numpy()
    return macro_auc(labels, logits) if signal is None else roc_auc(labels, logits, signal)


def completeness(found: Measured, name: str) -> Estimate:
    """The sum of relevance over the evidence, both towards the decision, over all jets."""
    value = evidence(found.logits[name, MOST][0], found.classes)
    return ratio(decided(value) * found.sums[name], value.abs())


def rest(found: Measured, name: str) -> Estimate:
    """What relevance misses of the evidence of a jet, the absolute value, over the evidence; sums over all jets."""
    value = evidence(found.logits[name, MOST][0], found.classes)
    return ratio((value - found.sums[name]).abs(), value.abs())


def hardest_table(found: Measured) -> Table:
    """Shares of the k hardest particles."""
    columns = {"pT": found.particles["pt hardest"], "particles": found.particles["hardest"]}
    columns |= {name: found.relevance[name]["hardest"] for name in METHODS}
    rows: list[dict[str, Cell]] = [
        {"hardest": k} | {name: _known_mean(values[:, place]) for name, values in columns.items()}
        for place, k in enumerate(HARDEST)
    ]
    return Table("Share of absolute relevance in the k particles of highest pT, mean over jets.", rows)


def species_table(found: Measured) -> Table | None:
    """Shares of kinds of particles; None where species are not known."""
    if "species" not in found.particles:
        return None
    columns = {"particles": found.particles["species"], "pT": found.particles["pt species"]}
    columns |= {name: found.relevance[name]["species"] for name in METHODS}
    columns |= {f"{name}, signed": found.relevance[name]["signed species"] for name in METHODS}
    rows: list[dict[str, Cell]] = [
        {"species": kind} | {name: _known_mean(values[:, place]) for name, values in columns.items()}
        for place, kind in enumerate(SPECIES)
        if float(found.particles["species"][:, place].nansum()) > 0
    ]
    return Table(
        "Share of absolute relevance by species, mean over jets; signed: for the class minus against it, in units of "
        "the absolute relevance of all particles.",
        rows,
    )


def subjet_table(found: Measured) -> Table | None:
    """Shares of two kT subjets; None without FastJet."""
    if "subjet" not in found.particles:
        return None
    columns = {"particles": found.particles["subjet"], "pT": found.particles["pt subjet"]}
    columns |= {name: found.relevance[name]["subjet"] for name in METHODS}
    rows: list[dict[str, Cell]] = [
        {"subjet": which} | {name: _known_mean(values[:, place]) for name, values in columns.items()}
        for place, which in enumerate(("harder", "softer", "none"))
    ]
    return Table("Share of absolute relevance in the two kT subjets of a jet, mean over jets that have two.", rows)


def _known_mean(values: Tensor) -> Estimate:
    return mean(values[~torch.isnan(values)])
