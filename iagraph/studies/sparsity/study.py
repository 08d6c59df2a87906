"""The study of sparsity: how binary attention of trained models is, what makes it so, and which particles it links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from iagraph.estimates import jackknife
from iagraph.interpret.binarity import correlation
from iagraph.interpret.geometry import RADII, number_of_subjets
from iagraph.interpret.sums import JetSums
from iagraph.interpret.zeroing import has_content, has_pairs
from iagraph.metrics import Estimate
from iagraph.studies.report import Section, write_study
from iagraph.studies.runs import Plan, open_runs
from iagraph.studies.sparsity.figures import figures
from iagraph.studies.sparsity.measure import AS_TRAINED, RunAttention, of_run
from iagraph.tables import Cell, Table

Row = dict[str, Cell]
RATIO_NAMES = ["0 - 1", *(f"1e{power} - 1e{power + 1}" for power in range(6)), "1e6 and more"]
PUBLISHED = (
    "published for ParT (arXiv 2512.00210), not measured here: attention of models trained on JetClass and of those "
    "trained on quark/gluon jets is binary, of those trained on the top reference set it is not; JetClass: U changes "
    "the largest source of 3.6 % of the rows and of 85.4 % of the particles at least once, 0.88 % of the rows and "
    "42.1 % of the particles are not binary, correlation of the two 0.229; accuracy 0.861, with U = 0 in the trained "
    "model 0.405, retrained without U 0.849"
)


def study(plan: Plan) -> Path:
    """Measure the attention of all runs, and write tables, figures and the section of the report.

    Follows arXiv 2512.00210 and 2412.03673, but compares scores from queries and keys (A) and from pairs (U) of the
    same edge, without padding, and finds subjets of whole jets.

    Raises:
        RunError: a run is not finished or has no attention among particles, or the folder cannot be created.
        ConfigError, StoreError: the configuration of a run or its test jets are wrong.
    """
    runs = open_runs("sparsity", plan)
    found = [of_run(run) for run in runs]
    section = Section("Sparsity of attention", tables(found), figures(found), notes(found))
    return write_study("sparsity", plan.folder, section, runs, plan.command)


def tables(runs: Sequence[RunAttention]) -> dict[str, Table]:
    """All non-empty tables by name."""
    found = {
        "summary": Table(
            "Attention in all layers. Rows: one particle, head and layer each; particles: with at least one such row.",
            [_summary(run) for run in runs],
        ),
        "layers": Table(
            "Attention in each layer.", [_layer(run, layer) for run in runs for layer in range(run.layers)]
        ),
        "epochs": Table(
            "Attention in all layers during training, with the weights kept after some epochs. U, A, beta = 0: change "
            "of the AUC.",
            [_epoch(run.epochs[epoch], epoch) for run in runs for epoch in run.epochs],
        ),
        "zeroed": Table(
            "Trained models with some scores set to zero, not retrained; differences from the model as trained, on the "
            "same jets.",
            [_zeroed(run, variant) for run in runs for variant in run.variants],
        ),
        "runs": Table(
            f"Models as trained, compared with the first one, {runs[0].name}, on the same jets.",
            [_beside(run, runs[0]) for run in runs[1:] if run.has_jets_of(runs[0])],
        ),
        "ratios": Table(
            "Fractions of edges by |A| / |U| before the softmax, all layers and heads.",
            [row for run in runs for row in _ratios(run)],
        ),
        "distances": Table(
            "Attention between different particles by distance, each jet counting equally; pairs: uniform.",
            [_distance(run, layer) for run in runs for layer in range(run.layers)],
        ),
        "subjets": Table(
            "Fraction of the attention between different particles that joins different kT subjets.",
            [row for run in runs for row in _subjets(run)],
        ),
        "leptons": Table(
            "Fraction of the attention that electrons and muons receive from other particles, in jets that have some. "
            "Nearest in pT: what the particles of other kinds that are nearest to them in pT receive; random weights: "
            "the same configuration, not trained.",
            [row for run in runs for row in _leptons(run)],
        ),
    }
    return {name: table for name, table in found.items() if table.rows}


def flip_correlation(found: JetSums, flag: str) -> Estimate:
    """Correlation over rows between a flag of :func:`~iagraph.interpret.binarity.row_flags` and ``non_binary``."""
    names = ("row", flag, "non_binary", f"{flag}_and_non_binary")
    return jackknife(torch.stack([found.layers[name].sum(1) for name in names], dim=1), correlation)


def _flips(found: JetSums) -> str | None:
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


def _epoch(run: RunAttention, epoch: int) -> Row:
    found, flag = run.found, _flips(run.found)

    def of(name: str, below: str = "row") -> Estimate | None:
        return found.ratio(name, below) if name in found.layers else None

    return {
        "run": run.name,
        "epoch": epoch,
        "AUC": run.auc(AS_TRAINED)[0],
        "non-binary rows": of("non_binary"),
        "particles": run.non_binary_tokens(),
        "effective neighbours": of("neighbours"),
        "of all": of("relative"),
        "flipped rows": flag and of(flag),
        "spread of A": of("content_spread"),
        "spread of U": of("pair_spread"),
        "between subjets": of("between", "split"),
        **{key: run.auc(key)[1] if key in run.variants else None for key in ("U = 0", "A = 0", "beta = 0")},
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
    """Row of a run compared with the first; errors are those of differences on the same jets."""
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
            fractions = (counts / counts.sum().clamp(min=1)).tolist()
            rows.append({"run": run.name, "edges": edges, **dict(zip(RATIO_NAMES, fractions, strict=True))})
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
                heading: run.found.ratio(prefix + key, f"{prefix}with leptons", layer, mine)
                for heading, prefix, key in (
                    ("attention", "", "lepton attention"),
                    ("random weights", "random ", "lepton attention"),
                    ("share of pT", "", "lepton pt"),
                    ("share of pairs", "", "lepton pairs"),
                    ("nearest in pT", "", "nearest attention"),
                    ("its share of pT", "", "nearest pt"),
                )
            }
            rows.append(
                {"run": run.name, "class": name, "layer": layer + 1, "jets": int(known[mine, layer].sum()), **of}
            )
    return rows


def notes(runs: Sequence[RunAttention]) -> list[str]:
    """Notes on tables and figures, and on what could not be measured for each run."""
    found = [
        "a row holds the weights that one particle gives to all particles of its jet in one head of one layer; it is "
        "not binary if its largest weight is below 0.8 (arXiv 2512.00210). As in that paper, the self-edge is part of "
        "the row; in columns 'no self' it is not, and the other weights of the row are scaled to sum to one",
        "errors take jets as independent, but not their particles, heads and layers; those of differences are paired. "
        "They do not include the randomness of training, by which runs differ, too",
        "entropy H in nats of the fractions |weight| / sum of |weights| of a row; effective neighbours: e^H, of all: "
        "over the number of the row's edges",
        "distances and subjets: edges between different particles only, absolute weights, all heads together; each jet "
        "counts equally. Pairs: all edges of the layer, as for uniform attention",
    ]
    if any("ratio" in run.found.histograms for run in runs):
        found.append(
            "A: queries times keys over sqrt(d), U: scores from pairs, of the same edge; there is no padding. A "
            "softmax ignores constants in a row of scores, so |A| / |U|, the published measure, says less than the "
            "spread of each within a row, our addition"
        )
        found.append("U = 0, A = 0: in the trained model; to compare a model trained without U, give its run, too")
    if any("maps_differ" in run.found.layers for run in runs):
        found.append(
            "differential attention is signed and its rows sum to 1 - beta: non-binary, entropy and largest weights "
            "are those of |weight| over the sum of |weights|; it has no A, so flips are rows whose first map and "
            "beta times second map have different largest sources; 'second map flips': subtracting changes the "
            "largest. If the two maps are each on a single, different source, the largest fraction is 1 / (1 + beta), "
            "0.8 for beta = 0.25: whether such a row counts as binary depends on beta, so see each map, too"
        )
    for run in runs:
        found += [f"{run.name}: {text}" for text in _missing(run)]
    if all("split" in run.found.layers for run in runs):
        found.append(
            "subjets: exclusive kT, R = 0.8, of all particles of the jet, three for tops that decay to quarks and two "
            "for all other classes. Random weights: the same configuration, not trained; particles shuffled: subjets "
            "permuted among the particles of the jet, which keeps their sizes"
        )
    else:
        found.append("subjets need FastJet: pip install 'iagraph[generate]', then rerun the command")
    return [*found, PUBLISHED]


def _missing(run: RunAttention) -> list[str]:
    model, found = run.run.model, []
    if not has_content(model.convs()):
        found.append("its scores come from pairs only: there is no A to compare them with")
    if not has_pairs(model):
        found.append("its scores come from queries and keys only: there is no U that could change the largest source")
    leptons = run.found.layers.get("with leptons")
    if leptons is None:
        found.append("species are unknown, so leptons cannot be identified")
    elif not leptons.any():
        found.append(f"there are no electrons or muons in its {run.run.jets:,} jets")
    return found
