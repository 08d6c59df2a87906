"""What a reader of the study of mechanisms must know."""

from __future__ import annotations

from collections.abc import Mapping

from iagraph.models import CascadedIAFormer, GatedIAFormer, ParticleTransformer
from iagraph.nn import SoftmaxDifference
from iagraph.studies.mechanism.probes import FOLDS
from iagraph.studies.recording import AttentionModel
from iagraph.studies.sections import Table


def notes(model: AttentionModel, tables: Mapping[str, Table], jets: int) -> list[str]:
    """Notes on definitions and on what the model does not have.

    Args:
        model: the model.
        tables: the tables of the study.
        jets: the number of jets.
    """
    lines = [
        f"{jets:,} test jets, taken as independent by the errors; those of changes are of paired differences.",
        "Mean logit difference: logit of the own class minus that of the other (of more classes: minus the logarithm "
        "of the sum of the others' exponentials), mean over the jets of each class, then over classes.",
        "Ablation replaces the weighed sum of values of a head, before the layer's last linear map, whose bias stays: "
        "by zero, or by its mean over all particles of these jets. Layers behind see what follows.",
        "Order of importance: by the loss of mean logit difference without the head alone, on one half of the jets; "
        "heads that stand in for one another look unimportant in it. Recovery of AUC: of the part above one half, and, "
        "as in arXiv 2605.09881, of all of it, of which 0.5 / AUC is left where nothing is known.",
        "Patching: the donor is a jet of another class; a particle takes the activation of the donor's particle of the "
        "same rank in pT and keeps its own where the donor has fewer. Attention behind keeps the pairs of the clean "
        "jet, so a patch of all vectors need not reach 1 before the last block, nor after it where multiplicities "
        "differ. What is shown is the whole effect, by all layers behind, not that of single paths.",
        f"Probe of the class: logistic regression on the mean vector of a jet, {FOLDS}-fold cross-validated. Probes of "
        "observables: ridge regression, fitted to one half of the jets and judged on the other one, with bootstrap "
        "errors. 'inputs' are means of the scaled node features; the untrained model has the same architecture.",
        "Observables: iagraph.observables; tau_N with axes from exclusive kT subjets; beta = 1 in all.",
    ]
    if any(isinstance(conv, SoftmaxDifference) for conv in model.convs()):
        lines.append(
            "Differential attention: a head is its first map minus beta times its second; both are ablated and patched "
            "together. Weights do not depend on particles' vectors: a change of one moves no attention behind it."
        )
    if isinstance(model, ParticleTransformer):
        lines.append("Rows 'class' are the heads of class attention, of one vector per jet; their means are over jets.")
    if isinstance(model, GatedIAFormer | CascadedIAFormer):
        lines.append(
            "The gate chooses pairs by the same features as the encoder reads: both without a feature, and each alone."
        )
    if "pair_features" in tables:
        lines.append(
            "A typical value of a pair feature is the one that the model scales to zero: the centre of its fixed "
            "scaling or, in ParT, the running mean of the batch norm. Shuffling exchanges the values of a jet's pairs, "
            "those of pairs of a particle with itself among one another."
        )
    else:
        lines.append("This model reads no pair features by name: nothing to ablate there.")
    if not any(name.startswith("tau") for row in tables["observables"].rows for name in row):
        lines.append("N-subjettiness is not probed: its axes need FastJet (pip install fastjet).")
    return lines
