"""What one must know to read the tables of a study of pruning, as sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from iagraph.studies.pruning_plan import PlannedRule
from iagraph.studies.survivors import Survivors
from iagraph.train.config import Config


def notes(
    survivors_of: PlannedRule,
    config: Config,
    jets: tuple[int, int],
    survivors: Survivors,
    retrained: Mapping[PlannedRule | None, Any],
) -> list[str]:
    """All but the time.

    Args:
        survivors_of: the rule whose survivors are looked at.
        config: that of the run.
        jets: number of classified jets, and of those whose edges are looked at.
        survivors: the edges.
        retrained: rules with which the model was trained on.
    """
    data, rule = config.data, survivors_of.rule
    role = f"signal: {data.signal}" if data.signal else "AUC: mean over the classes, each against all others"
    about = [
        f"{jets[0]:,} test jets, {role}; errors are those of a finite number of jets, of AUC differences those of the "
        "same jets judged twice",
        "edges: fraction of all, those of a particle with itself included, that are left after a layer; what is gone "
        "is no candidate of the next layer: budgets leave their fraction of it again, while controls choose once, so "
        "compare them at the mean over the layers, as the figure does",
        f"rules choose by |attention| {'for each head' if rule.per_head else 'as the mean over the heads'}, "
        f"{'before' if rule.renormalize else 'after'} the softmax; the model was not trained with them, "
        "but for rows that say so",
        "random, largest kT, smallest Delta R: this fraction of the pairs, chosen before the model; nearest neighbors: "
        "so many of each particle, in rapidity and phi",
        "MFLOP: products of one forward pass, two per multiply-add; choosing edges beforehand counts in the time alone",
        "figure: bars of the AUC are errors of its difference to the unpruned model, other bars and the band those of "
        "the number itself",
    ]
    if hasattr(config.model, "gate_fraction"):
        share = f"{config.model.gate_fraction:g} of the pairs"
        about.append(f"a gate of the model lets {share} through, of those that a control chose if there is one")
    if retrained:
        about.append(
            "retrained: trained on from the weights of the run at a tenth of its learning rate, with all of the rule "
            "from the first step or, to see what the longer training does, with none"
        )
    about.append(f"kinds of edges: those between different particles of {jets[1]:,} of these jets, with {survivors_of}")
    if survivors.charged is None:
        about.append("charges: the run knows no species of particles")
    if survivors.between_subjets is None:
        about.append("subjets need FastJet: pip install 'iagraph[generate]', then start the command again")
    else:
        about.append("between subjets: in different ones of the two of exclusive kT with R = 0.8")
    return about
