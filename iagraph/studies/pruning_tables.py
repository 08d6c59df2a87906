"""The numbers of pruned models as tables: pure functions of what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from iagraph.metrics import Estimate
from iagraph.studies.tables import csv_text, markdown_table
from iagraph.train.evaluation import heading


@dataclass(frozen=True)
class Row:
    """A way to prune a model, and what comes of it.

    Attributes:
        family: name of the rule or of the control.
        strength: its number, None if there is none.
        name: both in one.
        kept: fraction of all edges, those of a particle with itself included, that each layer has left.
        flops: floating-point operations per jet.
        seconds: time per jet, the choice of the edges included.
        report: accuracy, AUC and rejections, each with the error of the finite test set.
        difference: AUC minus that of the model without pruning on the same jets; None for that model itself.
    """

    family: str
    strength: float | None
    name: str
    kept: tuple[float, ...]
    flops: float
    seconds: float
    report: dict[str, Estimate]
    difference: Estimate | None

    @property
    def mean_kept(self) -> float:
        """Fraction of all edges that are left, mean over the layers."""
        return sum(self.kept) / len(self.kept)

    def cells(self) -> list[str]:
        """Name, edges left by the first and the last layer, costs, report and difference."""
        costs = [f"{self.flops / 1e6:,.2f}", f"{1e3 * self.seconds:.3g}"]
        kept = [f"{self.kept[0]:.3f}", f"{self.kept[-1]:.3f}"]
        difference = "-" if self.difference is None else str(self.difference)
        return [self.name, *kept, *costs, *map(str, self.report.values()), difference]


def headings(rows: Sequence[Row]) -> list[str]:
    """Of the columns of :meth:`Row.cells`."""
    edges = ["edges after first layer", "after last layer"]
    return ["", *edges, "MFLOP/jet", "ms/jet", *map(heading, rows[0].report), "AUC - unpruned"]


def pruning_markdown(rows: Sequence[Row], survivors: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """The table, that of the survivors, and the notes below them.

    Args:
        rows: what was measured.
        survivors: cells of their table, the first line of which are the headings.
        notes: what one must know to read both.
    """
    table = markdown_table([headings(rows), *(row.cells() for row in rows)])
    return "\n".join([*table, "", *markdown_table(survivors), "", *(f"- {note}" for note in notes), ""])


def pruning_csv(rows: Sequence[Row]) -> str:
    """A line per row in full precision; what there is not is empty, an infinite rejection is inf."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {"family": row.family, "strength": "" if row.strength is None else row.strength}
        line |= {"kept_first_layer": row.kept[0], "kept_last_layer": row.kept[-1], "kept_mean": row.mean_kept}
        line |= {"flops_per_jet": row.flops, "seconds_per_jet": row.seconds}
        for key, estimate in row.report.items():
            line |= {key: estimate.value, f"{key}_error": estimate.error}
        value, error = ("", "") if row.difference is None else row.difference
        lines.append(line | {"auc_minus_unpruned": value, "auc_minus_unpruned_error": error})
    return csv_text(lines)
