"""The tables of a study of sparsity."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from iagraph.metrics import Estimate
from iagraph.studies.estimates import jackknife
from iagraph.studies.sections import Cell, Table
from iagraph.studies.sparsity.between import RADII, number_of_subjets
from iagraph.studies.sparsity.binary import correlation
from iagraph.studies.sparsity.measured import Measured
from iagraph.studies.sparsity.run import AS_TRAINED, RunAttention

Row = dict[str, Cell]
RATIO_NAMES = ["0 - 1", *(f"1e{power} - 1e{power + 1}" for power in range(6)), "1e6 and more"]


def tables(runs: Sequence[RunAttention]) -> dict[str, Table]:
    """All tables by name; one that none of the runs has anything for is left out."""
    found = {
        "summary": Table(
            "Attention in all layers. Rows: one particle, head and layer each; particles: with at least one such row.",
            [_summary(run) for run in runs],
        ),
        "layers": Table(
            "Attention in each layer.", [_layer(run, layer) for run in runs for layer in range(run.layers)]
        ),
        "zeroed": Table(
            "Trained models with some of their scores set to zero, not trained anew; differences are to the model as "
            "trained, on the same jets.",
            [_zeroed(run, variant) for run in runs for variant in run.variants],
        ),
        "runs": Table(
            f"Models as trained, beside the first one, {runs[0].name}, on the same jets.",
            [_beside(run, runs[0]) for run in runs[1:] if run.has_jets_of(runs[0])],
        ),
        "ratios": Table(
            "Shares of edges by |A| / |U| before the softmax, all layers and heads.",
            [row for run in runs for row in _ratios(run)],
        ),
        "distances": Table(
            "Attention between different particles by their distance, each jet counting the same; pairs: even.",
            [_distance(run, layer) for run in runs for layer in range(run.layers)],
        ),
        "subjets": Table(
            "Share of the attention between different particles that joins different kT subjets.",
            [row for run in runs for row in _subjets(run)],
        ),
        "leptons": Table(
            "Share of the attention that electrons and muons receive from other particles, in jets that have some.",
            [row for run in runs for row in _leptons(run)],
        ),
    }
    return {name: table for name, table in found.items() if table.rows}


def flip_correlation(found: Measured, flag: str) -> Estimate:
    """Correlation over rows of a flag of :func:`~iagraph.studies.sparsity.binary.row_flags` with ``non_binary``."""
    names = ("row", flag, "non_binary", f"{flag}_and_non_binary")
    return jackknife(torch.stack([found.layers[name].sum(1) for name in names], dim=1), correlation)


def _flips(found: Measured) -> str | None:
    return next((name for name in ("flip", "maps_differ") if name in found.layers), None)


def _summary(run: RunAttention) -> Row:
    found = run.found
    row: Row = {
        "run": run.name,
        "model": run.run.run.config.model.name,
        "jets": run.run.jets,
        "non-binary rows": found.ratio("non_binary", "row"),
        "particles": run.non_binary_tokens(),
        "non-binary rows, no self": found.ratio("non_binary_others", "row_others"),
        "particles, no self": run.non_binary_tokens(name="non_binary_others"),
        "effective neighbours": found.ratio("neighbours", "row"),
        "of all": found.ratio("relative", "row"),
        "on itself": found.ratio("self", "row"),
    }
    flag = _flips(found)
    return row | {
        "flipped rows": None if flag is None else found.ratio(flag, "row"),
        "flipped particles": None if flag is None else run.non_binary_tokens(name=flag),
        "correlation with non-binary": None if flag is None else flip_correlation(found, flag),
    }


def _layer(run: RunAttention, layer: int) -> Row:
    found = run.found

    def of(name: str, below: str = "row") -> Estimate | None:
        return found.ratio(name, below, layer) if name in found.layers else None

    return {
        "run": run.name,
        "layer": layer + 1,
        "non-binary rows": of("non_binary"),
        "particles": of("non_binary tokens", "row tokens"),
        "non-binary rows, no self": of("non_binary_others", "row_others"),
        "non-binary, first map": of("non_binary_first"),
        "second map": of("non_binary_second"),
        "entropy": of("entropy"),
        "effective neighbours": of("neighbours"),
        "of all": of("relative"),
        "on itself": of("self"),
        "spread of A": of("content_spread"),
        "spread of U": of("pair_spread"),
        "U spreads more": of("pair_spreads_more"),
        "flipped rows": of("flip"),
        "maps differ": of("maps_differ"),
        "second map flips": of("subtraction"),
    }


def _zeroed(run: RunAttention, variant: str) -> Row:
    found = run.variants[variant].found
    (accuracy, accuracy_gain), (auc, auc_gain) = run.accuracy(variant), run.auc(variant)
    trained = variant == AS_TRAINED
    return {
        "run": run.name,
        "scores": variant,
        "accuracy": accuracy,
        "difference of accuracy": None if trained else accuracy_gain,
        "AUC": auc,
        "difference of AUC": None if trained else auc_gain,
        "non-binary rows": found.ratio("non_binary", "row"),
        "particles": run.non_binary_tokens(variant),
        "effective neighbours": found.ratio("neighbours", "row"),
    }


def _beside(run: RunAttention, first: RunAttention) -> Row:
    """Errors are those of the same jets judged by both models."""
    reference = first.variants[AS_TRAINED].logits
    (accuracy, accuracy_gain), (auc, auc_gain) = (of(AS_TRAINED, reference) for of in (run.accuracy, run.auc))
    return {
        "run": run.name,
        "accuracy": accuracy,
        "difference of accuracy": accuracy_gain,
        "AUC": auc,
        "difference of AUC": auc_gain,
    }


def _ratios(run: RunAttention) -> list[Row]:
    rows: list[Row] = []
    for key, edges in (("ratio", "all"), ("ratio_others", "no self")):
        if key in run.found.histograms:
            counts = run.found.histograms[key].sum(0)
            shares = (counts / counts.sum().clamp(min=1)).tolist()
            rows.append({"run": run.name, "edges": edges, **dict(zip(RATIO_NAMES, shares, strict=True))})
    return rows


def _distance(run: RunAttention, layer: int) -> Row:
    def of(name: str) -> Estimate:
        return run.found.ratio(name, "weighed", layer)

    row: Row = {"run": run.name, "layer": layer + 1, "mean Delta R": of("delta_r"), "of pairs": of("pairs delta_r")}
    for radius in RADII:
        row |= {
            f"within {radius:g}": of(f"within {radius:g}"),
            f"pairs within {radius:g}": of(f"pairs within {radius:g}"),
        }
    return row


def _subjets(run: RunAttention) -> list[Row]:
    if "split" not in run.found.layers:
        return []
    rows: list[Row] = []
    for label, name in enumerate(run.run.run.classes):
        for layer in range(run.layers):
            of = {
                heading: run.found.ratio(f"{prefix}between", f"{below}split", layer, run.labels == label)
                for heading, prefix, below in (
                    ("trained", "", ""),
                    ("random weights", "random ", "random "),
                    ("particles shuffled", "shuffled ", "shuffled "),
                    ("pairs", "pairs ", ""),
                )
            }
            rows.append({"run": run.name, "class": name, "subjets": number_of_subjets(name), "layer": layer + 1, **of})
    return rows


def _leptons(run: RunAttention) -> list[Row]:
    known = run.found.layers.get("with leptons")
    rows: list[Row] = []
    if known is None:
        return rows
    for label, name in enumerate(run.run.run.classes):
        mine = run.labels == label
        for layer in range(run.layers):
            if not known[mine, layer].any():
                continue
            of = {
                heading: run.found.ratio(key, "with leptons", layer, mine)
                for heading, key in (
                    ("attention", "lepton attention"),
                    ("share of pT", "lepton pt"),
                    ("share of pairs", "lepton pairs"),
                )
            }
            rows.append(
                {"run": run.name, "class": name, "layer": layer + 1, "jets": int(known[mine, layer].sum()), **of}
            )
    return rows
