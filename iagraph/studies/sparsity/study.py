"""The study: how binary the attention of trained models is, what makes it so, and whom it links."""

from __future__ import annotations

from pathlib import Path

from iagraph.studies.of_run import Plan, open_run
from iagraph.studies.sections import Section, write_section
from iagraph.studies.side_by_side import labels
from iagraph.studies.sparsity.figures import figures
from iagraph.studies.sparsity.notes import notes
from iagraph.studies.sparsity.run import of_run
from iagraph.studies.sparsity.tables import tables

TITLE = "Sparsity of attention"


def study(plan: Plan) -> Path:
    """Measures the attention of all runs and writes tables, figures and the section of the report.

    After arXiv 2512.00210 and 2412.03673, with edges aligned, without padding, and subjets of whole jets.

    Args:
        plan: the runs, the number of jets of each, and where the results go.

    Returns:
        The folder.

    Raises:
        RunError: a run is not finished or has no attention among particles, or the folder cannot be made.
        ConfigError, StoreError: the configuration of a run or its test jets are wrong.
    """
    runs = [open_run(path, plan.jets) for path in plan.runs]
    found = [of_run(run, name) for run, name in zip(runs, labels(plan.runs), strict=True)]
    section = Section(TITLE, tables(found), figures(found), notes(found))
    return write_section(plan.folder, section, runs, plan.command)
