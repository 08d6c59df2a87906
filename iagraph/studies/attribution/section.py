"""The study of attribution of a run."""

from __future__ import annotations

from pathlib import Path

import torch

from iagraph.jets import JetBatch
from iagraph.studies.attribution.figures import Example, deletion_curves, relevance_maps, relevance_profiles
from iagraph.studies.attribution.gradients import STEPS
from iagraph.studies.attribution.measured import explained_classes, measure, relevances
from iagraph.studies.attribution.profiles import relative_relevance
from iagraph.studies.attribution.tables import deletion_table, hardest_table, species_table, subjet_table
from iagraph.studies.display import THRESHOLD, ShownJet, draw_jets, shown_jet
from iagraph.studies.display_live import live_jet
from iagraph.studies.of_run import OpenRun, Plan, open_run
from iagraph.studies.recording import record_attention
from iagraph.studies.sections import Section, write_section
from iagraph.train.folder import RunError

EXAMPLES = 8
"""Largest number of jets drawn, two of each class where there are not more classes."""


def study(plan: Plan) -> Path:
    """Which particles decide, by several methods, which method to believe, and displays of jets.

    Raises:
        RunError: more than one run is given, or as in :func:`~iagraph.studies.of_run.open_run`.
    """
    if len(plan.runs) != 1:
        raise RunError(f"attribution looks at the jets of one run, found {len(plan.runs)}: give one RUN at a time")
    run = open_run(plan.runs[0], plan.jets)
    classes, signal_name = run.run.classes, run.run.config.data.signal
    signal = None if signal_name is None else classes.index(signal_name)
    found = measure(run)
    examples, displays = _examples(run)
    tables = {"deletion": deletion_table(found, signal), "hardest": hardest_table(found)}
    for name, table in (("species", species_table(found)), ("subjets", subjet_table(found))):
        if table is not None:
            tables[name] = table
    shown, titles = [example.jet for example in examples], [example.title for example in examples]
    figures = {
        "deletion": (
            deletion_curves(found, signal),
            "What is left of the evidence for a decision, and of the AUC, when particles are dropped.",
        ),
        "maps": (
            relevance_maps(examples),
            "Relevance of the particles of some jets; areas of markers are proportional to pT, kT subjets are shaded.",
        ),
        "profiles": (
            relevance_profiles(found),
            "Relevance relative to its jet, where the mean of |r| is 1, against pT and the distance to the axis.",
        ),
        "attention": (
            draw_jets(shown, titles),
            f"Attention of the last layer, by the head of largest |weight| of each edge, from {THRESHOLD} on; areas of "
            "markers are proportional to pT, kT subjets are shaded.",
        ),
    }
    section = Section("Attribution", tables, figures, _notes(signal_name), live=displays)
    return write_section(plan.folder, section, [run], plan.command)


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
        jet: ShownJet = shown_jet(jets, number, recording)
        title = f"{run.run.classes[label]} {number + 1}"
        mine = slice(*jets.ptr[number : number + 2].tolist())
        examples.append(Example(jet, title, {name: values[mine].numpy() for name, values in relative.items()}))
        displays.append(live_jet(jet, f"{run.name}: {title}"))
    return examples, displays


def _typical_jets(run: OpenRun) -> JetBatch:
    """Of each class the jets whose multiplicity is nearest to its median, one batch with labels."""
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


def _notes(signal: str | None) -> list[str]:
    of = "the class that the model predicts for a jet" if signal is None else f"'{signal}'"
    return [
        f"Relevance explains the evidence for {of}: its logit minus the mean of all others'. In the deletion test it "
        "is turned towards what the model decided, for or against that class.",
        "Grad-CAM: last block, without ReLU. Gradient x input, integrated gradients (from features at the centres of "
        f"their scales, {STEPS} points) and LRP: scaled node features. Pair features come from momenta and are held "
        "constant in all of them: what attention makes of distances is not attributed.",
        "LRP: attention weights (signed ones, too), denominators of norms and gates held constant (arXiv 2202.07304). "
        "Its sum misses what biases, and the class token of ParT, add to the evidence.",
        "In the deletion test a jet is what is left of it: momentum, axis and pair features are computed anew. Bars "
        "and errors take jets as independent; those of areas and shares are of ratios of sums over jets.",
        "Fewer particles make another jet: compare with particles that are dropped by chance. A model may lean on "
        "multiplicity, and then each particle of a jet speaks for the same class.",
        "Weights of differential attention are signed: displays show their sign by colour and their size by width.",
    ]
