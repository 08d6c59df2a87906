"""Pruning of a trained model by rules and controls: edges kept, cost and performance.

The folder of the study holds ``table.md``, ``table`` and ``survivors`` (kinds of kept edges) as CSV in full precision
and as LaTeX, ``report.json`` (command, versions, machine, jets, options), ``figure`` and ``survivors`` as PNG and PDF,
``section.html`` for the report of the run, and ``retrained/`` with a run folder per rule of continued training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iagraph.data.overview import UNWEIGHTED
from iagraph.interpret.edges import KeptEdges, find_kept_edges, kinds_of_edges
from iagraph.studies.output import check_earlier, is_report
from iagraph.studies.pruning.figures import kept_edge_distributions, performance_against_cost
from iagraph.studies.pruning.measure import Row, measure
from iagraph.studies.pruning.retraining import plan_retraining, retrain
from iagraph.studies.pruning.rules import PlannedRule, prunable, retrained_variants, variants, with_rule
from iagraph.studies.report import Section, write_report, write_section
from iagraph.studies.runs import open_studied_jets, some_batches, where_measured
from iagraph.studies.timing import TIMED_JETS, how_measured
from iagraph.tables import Cell, Table
from iagraph.train.config import Config
from iagraph.train.datamodule import fingerprints, open_role
from iagraph.train.evaluation import heading
from iagraph.train.folder import Run, alone, load_run, make_folder

INSPECTED_JETS = 500


@dataclass(frozen=True)
class PruningStudy:
    """Arguments of the study.

    Attributes:
        run: folder of a finished run.
        folder: output folder.
        rules: the rules to try.
        inspected: the rule whose kept edges are described.
        jets: number of test jets.
        epochs: epochs of continued training, with each rule and without one; None for no training.
        command: the command line, for the record.
    """

    run: Path
    folder: Path
    rules: Sequence[PlannedRule]
    inspected: PlannedRule
    jets: int = 2000
    epochs: int | None = None
    command: str = ""


def prune(study: PruningStudy) -> Path:
    """Prune a trained model by all rules and controls, and write tables and figures.

    Returns:
        The folder of the study.

    Raises:
        RunError: the folder holds no finished run, its model has no edges to prune or cannot be trained with rules,
            there are too few jets, the folder of the study has other files, or another process uses it, all found
            before anything is written; or, later, retraining failed.
        ConfigError, StoreError: the configuration of the run or its test jets are wrong.
    """
    check_earlier(study.folder, "prune", study.run, more=(".lock", "retrained"))
    run = load_run(study.run)
    tagger = prunable(run, study.run)
    jets = open_studied_jets(study.run, run, study.jets)
    plans = {}
    if study.epochs is not None:
        plans = plan_retraining(study.run, run.config, study.rules, study.epochs, study.folder / "retrained")
    device = where_measured([study.run])
    make_folder(study.folder, exist_ok=True)
    with alone(study.folder):
        # Training comes first: it takes longest.
        models = [*variants(tagger, study.rules), *retrained_variants(retrain(plans))]
        batches = some_batches(jets, study.jets)
        rows = measure(models, jets, batches, run, device)
        number = sum(map(len, batches))
        fewer = [batch.to(device) for batch in some_batches(jets, min(INSPECTED_JETS, number))]
        kept = find_kept_edges(with_rule(tagger, study.inspected.rule).to(device), fewer)
        about = notes(study.inspected, run.config, (number, sum(map(len, fewer))), kept, plans)
        about.append(how_measured(min(TIMED_JETS, number), device))
        tables = {"table": rules_table(rows), "survivors": kept_edges_table(kinds_of_edges(kept))}
        title = f"edges between different particles, {study.inspected}"
        figures = {
            "figure": (performance_against_cost(rows), "Performance against the edges kept, operations and time."),
            "survivors": (kept_edge_distributions(kept, title), f"Kept and dropped {title}."),
        }
        section = Section(f"Pruning ({study.run.resolve().name})", tables, figures, about)
        write_section(study.folder, section, study.command, _about(study, run, number))
    studies = study.folder.resolve().parent
    for place in (studies, studies / study.run.resolve().name):
        if is_report(place / "report.html"):
            write_report(place, [study.run])
    return study.folder


def _about(study: PruningStudy, run: Run, number: int) -> dict[str, Any]:
    data = run.config.data
    return {
        "study": "prune",
        "run": str(study.run.resolve()),
        "jets": {"number": number, "files": fingerprints(data.test, open_role(data.test, "test", data))},
        "options": {
            "rules": list(map(str, study.rules)),
            "per_head": study.inspected.rule.per_head,
            "renormalize": study.inspected.rule.renormalize,
            "survivors": str(study.inspected),
            "retrain": study.epochs,
        },
        "config": run.config.model_dump(),
    }


def rules_table(rows: Sequence[Row]) -> Table:
    """A row per model; in the CSV, missing values are empty and an infinite rejection is inf."""
    shown: list[dict[str, Cell]] = []
    exact: list[dict[str, Cell]] = []
    for row in rows:
        line: dict[str, Cell] = {"family": row.family, "strength": row.strength}
        line |= {"kept_first_layer": row.kept[0], "kept_last_layer": row.kept[-1], "kept_mean": row.mean_kept}
        line |= {"flops_per_jet": row.flops, "seconds_per_jet": row.seconds, **row.report}
        exact.append(line | {"auc_minus_unpruned": row.difference})
        kept = {"edges after first layer": f"{row.kept[0]:.3f}", "after last layer": f"{row.kept[-1]:.3f}"}
        costs = {"MFLOP/jet": f"{row.flops / 1e6:,.2f}", "ms/jet": f"{1e3 * row.seconds:.3g}"}
        report = {heading(key): str(estimate) for key, estimate in row.report.items()}
        shown.append({"": row.name, **kept, **costs, **report, "AUC - unpruned": row.difference})
    return Table("The model with each rule and each control.", shown, exact)


def kept_edges_table(kinds: Sequence[dict[str, Any]]) -> Table:
    """Table of the numbers of all edges and of kept edges, and the fraction of each kind among them."""
    shown = [
        {key: f"{cell:.4f}" if isinstance(cell, float) and cell == cell else cell for key, cell in row.items()}
        for row in kinds
    ]
    return Table("Kinds of edges.", shown, kinds)


def notes(
    inspected: PlannedRule,
    config: Config,
    jets: tuple[int, int],
    kept: KeptEdges,
    retrained: Mapping[PlannedRule | None, Any],
) -> list[str]:
    """Notes on the tables, except on time; ``jets``: numbers of jets classified and of jets with edges described."""
    data, rule = config.data, inspected.rule
    role = f"signal: {data.signal}" if data.signal else "AUC: mean over the classes, each against all others"
    about = [
        f"{jets[0]:,} test jets, {role}; errors from the finite number of jets, those of AUC differences paired",
        "edges: fraction of all, self-edges included, kept after a layer; dropped edges are no candidates of the next "
        "layer, so budgets multiply, while controls choose once: compare them at the mean over the layers, as in the "
        "figure",
        f"rules choose by |attention| {'for each head' if rule.per_head else 'as the mean over the heads'}, "
        f"{'before' if rule.renormalize else 'after'} the softmax; the model was not trained with them, "
        "unless the row says so",
        "random, largest kT, smallest Delta R: this fraction of the pairs, chosen before the model; nearest neighbors: "
        "this number per particle, in rapidity and phi",
        "MFLOP: products of one forward pass, two per multiply-add; choosing edges beforehand counts only in the time",
        "figure: bars of the AUC are errors of its difference from the unpruned model, other bars and the band those "
        "of the value itself",
    ]
    if hasattr(config.model, "gate_fraction"):
        about.append(f"a gate of the model passes {config.model.gate_fraction:g} of the pairs, after any control")
    if retrained:
        about.append(
            "retrained: trained further from the weights of the run at a tenth of its learning rate, with the full "
            "rule from the first step or, to show the effect of longer training, without a rule"
        )
    if data.weights:
        about.append(UNWEIGHTED)
    about.append(f"kinds of edges: those between different particles of {jets[1]:,} of these jets, with {inspected}")
    if kept.charged is None:
        about.append("charges: the jets have no particle species")
    if kept.between_subjets is None:
        about.append("subjets need FastJet: pip install 'iagraph[generate]', then rerun the command")
    else:
        about.append("between subjets: in different ones of two exclusive kT subjets, R = 0.8")
    return about
