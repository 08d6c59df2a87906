"""Learning curves: performance of models against the number of training jets, with power laws.

The folder of a learning curve holds, per number of training jets, a folder with a run folder per model and seed; and
``table`` (every model at every number), ``fits`` (the power laws), ``runs.csv`` (every run), ``figure``,
``report.json`` and ``section.html``, as a comparison does (:mod:`iagraph.studies.compare.study`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iagraph.studies.compare.measure import measure_costs, over_seeds, read_results, with_changes
from iagraph.studies.compare.study import DIFFERENCE, RESULTS, JetsInfo, jets_of, notes, trained
from iagraph.studies.curve.config import Curve
from iagraph.studies.curve.figures import learning_curves
from iagraph.studies.curve.measure import all_runs_table, curve_table, laws_table, power_laws
from iagraph.studies.report import Section, write_section
from iagraph.yaml_config import ConfigError


def curve(plan: Curve, jobs: int = 1, command: str = "") -> Path:
    """Train missing runs, smallest numbers of jets first; write tables, power laws and the figure of all runs.

    Args:
        plan: the models and numbers of training jets.
        jobs: number of runs to train concurrently, each in its own process.
        command: the command line, for the record.

    Returns:
        The folder of the learning curve.

    Raises:
        ConfigError: the numbers of jets are not ascending, or exceed that of the training jets; or as below.
        StoreError, RunError, CheckpointError: as in :func:`iagraph.studies.compare.study.compare`.
    """
    jets = [jets_of(part) for part in plan.parts]
    _check_numbers(plan, jets)
    last = plan.parts[-1]
    runs = [run for part in plan.parts for run in part.runs]
    with trained("curve", plan.folder, runs, jets[-1].fingerprints, jobs, (*RESULTS, "fits.csv", "fits.tex")):
        found = {
            info.train: with_changes(read_results(part.runs), part) for part, info in zip(plan.parts, jets, strict=True)
        }
        costs, how = measure_costs(last)
        points = {number: over_seeds(results, costs) for number, results in found.items()}
        laws = power_laws(found, plan.extrapolate)
        tables = {"table": curve_table(points, last.reference), "fits": laws_table(laws, plan.extrapolate)}
        every = [result for results in found.values() for result in results]
        about = [
            "fewer training jets are a random choice, the same for all models and seeds, whose effect +- lacks",
            "power laws: straight lines of ln(1 - AUC), and of ln(1/eB), against ln(training jets), fitted to all runs",
            "extrapolated: nothing was trained there. Power laws know no limit of what jets tell, so these may be too "
            "good; their errors, from the scatter of the runs and the finite test set, assume that the laws still hold",
            *notes(last.recipes, last.seeds, jets[-1].train, jets[-1].test, every),
            how,
        ]
        if last.reference is not None:
            about.append(f"AUC - {last.reference}: {DIFFERENCE}")
        caption = "Performance against the number of training jets; dotted: extrapolated."
        figures = {"figure": (learning_curves(points, laws, plan.extrapolate), caption)}
        section = Section(f"Learning curves ({plan.folder.name})", tables, figures, about)
        more = {
            "study": "curve",
            "jets": [info._asdict() for info in jets],
            "seeds": last.seeds,
            "recipes": {name: config.model_dump() for name, config in last.recipes.items()},
            "reference": last.reference,
        }
        write_section(plan.folder, section, command, more)
        (plan.folder / "runs.csv").write_text(all_runs_table(found).csv(), encoding="utf-8")
    return plan.folder


def _check_numbers(plan: Curve, jets: Sequence[JetsInfo]) -> None:
    """Refuse numbers of training jets that do not ascend, or that are larger than the files hold."""
    asked = [next(iter(part.recipes.values())).data.max_jets for part in plan.parts]
    used = [info.train for info in jets]
    if sorted(set(used)) != used or any(
        wanted not in (None, number) for wanted, number in zip(asked, used, strict=True)
    ):
        wanted = ", ".join("null" if number is None else str(number) for number in asked)
        raise ConfigError(
            f"jets: [{wanted}] should ascend up to at most the number of training jets, and use "
            f"{', '.join(f'{number:,}' for number in used)}; leave some out, or add files to data.train"
        )
