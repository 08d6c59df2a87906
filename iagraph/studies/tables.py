"""The numbers of a comparison as tables: pure functions of what the finished runs recorded."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iagraph.metrics import Estimate
from iagraph.train.evaluation import heading

ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Result:
    """What a finished run says about a model.

    Attributes:
        model: its name in the table.
        seed: that of the run.
        report: accuracy, AUC and rejections, each with the error of the finite test set.
        multiplicity: AUC of the number of particles alone.
        gain: AUC above that of multiplicity alone.
        parameters, flops: of the model; floating-point operations per jet.
        jets: number of test jets.
    """

    model: str
    seed: int
    report: dict[str, Estimate]
    multiplicity: Estimate
    gain: Estimate
    parameters: int
    flops: float
    jets: int

    @classmethod
    def from_metrics(cls, model: str, seed: int, metrics: Mapping[str, Any]) -> Result:
        """The result that a ``metrics.json`` holds, where null stands for an infinite or undefined number."""
        report = {key: _estimate(key, value) for key, value in metrics["tagger"].items()}
        multiplicity = _estimate("auc", metrics["multiplicity"]["auc"])
        gain = _estimate("gain", metrics["auc_gain_over_multiplicity"])
        cost = metrics["cost"]
        counts = cost["parameters"], cost["flops_per_jet"], metrics["jets"]
        return cls(model, seed, report, multiplicity, gain, *counts)


@dataclass(frozen=True)
class OverSeeds:
    """A number of a model in the run of each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean; infinite if one value is."""
        return sum(self.values) / len(self.values)

    @property
    def spread(self) -> float:
        """Sample standard deviation; undefined for one seed, and for infinite values."""
        if len(self.values) < 2 or not math.isfinite(self.mean):
            return math.nan
        return statistics.stdev(self.values)

    def __str__(self) -> str:
        if infinite := sum(map(math.isinf, self.values)):
            return f"infinite in {infinite} of {len(self.values)}"
        if len(self.values) == 1:
            return f"{self.mean:.4g} +- -"
        return str(Estimate(self.mean, self.spread))


@dataclass(frozen=True)
class Row:
    """A model over its seeds: its numbers by their key in the report, and what it costs."""

    model: str
    numbers: dict[str, OverSeeds]
    parameters: int
    flops: float
    seconds: float

    def cells(self) -> list[str]:
        """Name, numbers, parameters, MFLOP and milliseconds per jet."""
        costs = [f"{self.parameters:,}", f"{self.flops / 1e6:,.1f}", f"{1e3 * self.seconds:.3g}"]
        return [self.model, *map(str, self.numbers.values()), *costs]


def table(results: Sequence[Result], seconds: Mapping[str, float]) -> list[Row]:
    """A row per model, in the order in which they come.

    Args:
        results: of every model with the same seeds.
        seconds: time per jet of each model.
    """
    rows = []
    for model in dict.fromkeys(result.model for result in results):
        mine = [result for result in results if result.model == model]
        numbers = {key: OverSeeds(tuple(result.report[key].value for result in mine)) for key in mine[0].report}
        rows.append(Row(model, numbers, mine[0].parameters, mine[0].flops, seconds[model]))
    return rows


def headings(rows: Sequence[Row]) -> list[str]:
    """Of the columns of :meth:`Row.cells`."""
    return ["", *map(heading, rows[0].numbers), "parameters", "MFLOP/jet", "ms/jet"]


def markdown(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """The table with the notes below it."""
    table = markdown_table([headings(rows), *(row.cells() for row in rows)])
    return "\n".join([*table, "", *(f"- {note}" for note in notes), ""])


def markdown_table(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown for the cells of a table, the first line of which are the headings."""
    head, *body = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def latex(rows: Sequence[Row], notes: Sequence[str]) -> str:
    """A tabular for the package booktabs; the notes are comments."""
    names = [_escaped(name).replace("1/eB", r"$1/\varepsilon_B$") for name in headings(rows)]
    body = [[_escaped(cell).replace("+-", r"$\pm$") for cell in row.cells()[1:]] for row in rows]
    lines = [[_escaped(row.model), *cells] for row, cells in zip(rows, body, strict=True)]
    return "\n".join(
        [
            *(f"% {note}" for note in notes),
            rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}",
            r"\toprule",
            rf"{' & '.join(names)} \\",
            r"\midrule",
            *(rf"{' & '.join(line)} \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def table_csv(rows: Sequence[Row]) -> str:
    """A line per model in full precision; an undefined spread is empty, an infinite mean is inf."""
    lines = []
    for row in rows:
        line: dict[str, Any] = {"model": row.model, "seeds": len(next(iter(row.numbers.values())).values)}
        for key, number in row.numbers.items():
            line |= {key: number.mean, f"{key}_spread": "" if math.isnan(number.spread) else number.spread}
        lines.append(line | {"parameters": row.parameters, "flops_per_jet": row.flops, "seconds_per_jet": row.seconds})
    return csv_text(lines)


def runs_csv(results: Sequence[Result]) -> str:
    """A line per run; errors are those of the finite test set."""
    lines = []
    for result in results:
        line: dict[str, Any] = {"model": result.model, "seed": result.seed}
        for key, estimate in {**result.report, "auc_gain_over_multiplicity": result.gain}.items():
            line |= {key: estimate.value, f"{key}_error": estimate.error}
        lines.append(line | {"parameters": result.parameters, "flops_per_jet": result.flops, "test_jets": result.jets})
    return csv_text(lines)


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """CSV of lines that all have the keys of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _estimate(key: str, found: Mapping[str, float | None]) -> Estimate:
    # A rejection is never undefined: with null, no background passed.
    null = math.inf if key.startswith("rejection_at_") else math.nan
    return Estimate(*(null if found[name] is None else float(found[name]) for name in Estimate._fields))  # type: ignore[arg-type]


def _escaped(text: str) -> str:
    return "".join(ESCAPES.get(sign, sign) for sign in text)
