"""The study of similarity: attention maps, CKA between layers, and beta, for one or several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iagraph.interpret.attention_maps import MeanMaps
from iagraph.interpret.cka import LayerSimilarity
from iagraph.metrics import Estimate
from iagraph.nn import SoftmaxDifference
from iagraph.studies.report import Figures, Section, write_study
from iagraph.studies.runs import OpenRun, Plan, check_same_jets, open_runs
from iagraph.studies.similarity.figures import beta_figure, map_panels, similarity_panels
from iagraph.studies.similarity.measure import (
    BetaHistory,
    Example,
    Similarity,
    beta_history,
    example,
    kept_epoch,
    layer_similarity,
    mean_maps,
)
from iagraph.tables import Cell, Table
from iagraph.train.module import betas

ESTIMATORS = ("plain", "unbiased")


def study(plan: Plan) -> Path:
    """Write attention maps, CKA between layers, and beta, for one or several runs.

    Raises:
        RunError: a run is given twice, cannot be opened or has no attention, or runs have different jets.
    """
    runs = open_runs("similarity", plan)
    check_same_jets(runs)
    names, attention, figures = [run.name for run in runs], [], Figures()
    for run in runs:
        maps = mean_maps(run)
        attention += attention_rows(run, maps)
        figures |= map_figures(run, maps, example(run))
    similarity = layer_similarity(runs)
    figures |= similarity_figures(names, similarity)
    tables = {
        "attention": Table(
            "Attention of each layer: sums over the edges of a target, mean over particles and heads.", attention
        ),
        "similarity": Table(
            "Linear CKA of layers with the encoder's output, with the previous layer, and with the last one.",
            similarity_rows(names, similarity),
        ),
    }
    if len(runs) > 1:
        tables["between_runs"] = Table(
            "Linear CKA of the same layer in two runs, and with the most similar layer of the second run.",
            between_rows(names, similarity),
        )
    differential = [run for run in runs if betas(run.model)]
    histories = {run.name: beta_history(run.path) for run in differential}
    figures |= beta_figures(differential, histories)
    notes = [*_notes(runs, similarity), *beta_notes(names, histories)]
    beta = {
        run.name: {"trained": betas(run.model), "epochs": history.epochs, "after epoch": history.layers}
        for run, history in zip(differential, histories.values(), strict=True)
    }
    numbers = {"similarity": similarity_numbers(names, similarity), "beta": beta}
    section = Section("Attention maps, similarity of layers, and beta", tables, figures, notes, numbers)
    return write_study("similarity", plan.folder, section, runs, plan.command)


def is_signed(run: OpenRun) -> bool:
    """Whether attention weights of a run's model can be negative."""
    return any(isinstance(conv, SoftmaxDifference) for conv in run.model.convs())


def attention_rows(run: OpenRun, maps: Sequence[MeanMaps]) -> list[dict[str, Cell]]:
    """A row per layer with its beta and the parts of its attention."""
    rows: list[dict[str, Cell]] = []
    for number, (layer, conv) in enumerate(zip(maps, run.model.convs(), strict=True), start=1):
        beta = float(conv.beta.detach().mean()) if isinstance(conv, SoftmaxDifference) else None
        row: dict[str, Cell] = {"run": run.name, "layer": number, "beta": beta}
        row |= {"positive part": layer.part("positive"), "negative part": layer.part("negative")}
        heads = [layer.negative_fraction(head).value for head in range(conv.heads)]
        row |= {"negative share": layer.negative_fraction(), "of head, least": min(heads), "of head, most": max(heads)}
        row |= {"|own edge|": layer.part("own"), "|from hardest|": layer.part("hardest")}
        rows.append(row)
    return rows


def map_figures(run: OpenRun, maps: Sequence[MeanMaps], shown: Example) -> Figures:
    """Maps of the last layer head by head, averaged and for one jet, and of all layers averaged over heads."""
    name, signed = run.name, is_signed(run)
    heads = [f"head {head + 1}" for head in range(len(shown.maps))]
    layers = [f"layer {layer + 1}" for layer in range(len(maps))]
    jets, place = int(maps[0].jets[0, 0]), _file(name)
    kind = "signed attention" if signed else "attention"
    averaged = map_panels(maps[-1].mean, heads, signed, f"{name}: {kind} of the last layer, mean over {jets:,} jets")
    single = map_panels(shown.maps, heads, signed, f"{name}: {kind} of the last layer in one {shown.kind} jet")
    means = torch.stack([layer.mean.mean(0) for layer in maps])
    title = f"{name}: {kind}, mean over heads and {jets:,} jets"
    each = map_panels(means, layers, signed, title, maps[0].jets)
    order = "Particles by falling pT, rows are targets and columns sources"
    return {
        f"last_layer_{place}": (averaged, f"{name}: last layer, head by head. {order}."),
        f"one_jet_{place}": (single, f"{name}: last layer in test jet {shown.jet} of the study. {order}."),
        f"layers_{place}": (each, f"{name}: all layers. {order}; last panel: number of jets that have a rank."),
    }


def similarity_figures(names: Sequence[str], similarity: Similarity) -> Figures:
    """CKA within each run and between each pair of runs, with a row per particle and with a row per jet."""
    figures = Figures()
    places = _places(similarity.layers)
    for what, found in _levels(similarity):
        matrices = {"plain": found.plain(), "unbiased minibatches": found.unbiased()}
        rows = f"a row per {what}"
        for name, mine in zip(names, places, strict=True):
            parts = {key: (value[mine, mine], error[mine, mine]) for key, (value, error) in matrices.items()}
            figure = similarity_panels(parts, "layer", "layer", f"{name}: linear CKA between layers, {rows}")
            caption = f"{name}: linear CKA between layers, {rows}. enc.: output of the particle encoder."
            figures[f"cka_{what}s_{_file(name)}"] = (figure, caption)
        for (one, mine), (other, theirs) in combinations(zip(names, places, strict=True), 2):
            parts = {key: (value[mine, theirs], error[mine, theirs]) for key, (value, error) in matrices.items()}
            title = f"{one} against {other}: linear CKA, {rows}"
            figure = similarity_panels(parts, f"layer of {one}", f"layer of {other}", title)
            figures[f"cka_{what}s_{_file(one)}_{_file(other)}"] = (figure, f"{title}.")
    return figures


def similarity_rows(names: Sequence[str], similarity: Similarity) -> list[dict[str, Cell]]:
    """Unbiased CKA of each layer with the encoder, the previous layer and the last layer of its run."""
    rows: list[dict[str, Cell]] = []
    matrices = {what: found.unbiased() for what, found in _levels(similarity)}
    for name, mine in zip(names, _places(similarity.layers), strict=True):
        for layer in range(mine.start, mine.stop):
            row: dict[str, Cell] = {"run": name, "layer": layer - mine.start}
            for what, matrix in matrices.items():
                others = {"encoder": mine.start, "before": layer - 1, "last": mine.stop - 1}
                for which, other in others.items():
                    known = other >= mine.start and other != layer
                    row[f"{what}s: {which}"] = _at(matrix, other, layer) if known else None
            rows.append(row)
    return rows


def between_rows(names: Sequence[str], similarity: Similarity) -> list[dict[str, Cell]]:
    """Unbiased CKA of each layer of a run with the same and the most similar layer of another run."""
    rows: list[dict[str, Cell]] = []
    matrices = {what: found.unbiased() for what, found in _levels(similarity)}
    for (one, mine), (other, theirs) in combinations(zip(names, _places(similarity.layers), strict=True), 2):
        for layer in range(mine.start, mine.stop):
            row: dict[str, Cell] = {"run": one, "other run": other, "layer": layer - mine.start}
            same = theirs.start + layer - mine.start
            for what, matrix in matrices.items():
                best = int(matrix[0][layer, theirs].nan_to_num(-1).argmax())
                row |= {f"{what}s: same layer": _at(matrix, layer, same) if same < theirs.stop else None}
                row |= {f"{what}s: most alike": best, f"{what}s: its CKA": _at(matrix, layer, theirs.start + best)}
            rows.append(row)
    return rows


def similarity_numbers(names: Sequence[str], similarity: Similarity) -> dict[str, Any]:
    """All CKA matrices with their errors, and the names of the layers."""
    layers = [
        f"{name}, {number}" for name, count in zip(names, similarity.layers, strict=True) for number in range(count)
    ]
    numbers: dict[str, Any] = {"layers": layers}
    for what, found in _levels(similarity):
        for kind in ESTIMATORS:
            value, error = getattr(found, kind)()
            numbers[f"{what}s, {kind}"] = {"value": value.tolist(), "error": error.tolist()}
    return numbers


def beta_figures(runs: Sequence[OpenRun], histories: Mapping[str, BetaHistory]) -> Figures:
    """Beta during the training of runs that logged it."""
    logged = {name: history for name, history in histories.items() if history.epochs}
    if not logged:
        return {}
    starts = {run.name: _starts(run) for run in runs}
    kept = {run.name: kept_epoch(run.model, histories[run.name]) for run in runs}
    caption = "Beta of each layer during training, with its initial value. Rings: the epoch whose weights are kept."
    return {"beta": (beta_figure(logged, starts, kept), caption)}


def beta_notes(names: Sequence[str], histories: Mapping[str, BetaHistory]) -> list[str]:
    """Notes on runs without beta, or without a log of it."""
    without = [name for name in names if name not in histories]
    unlogged = [name for name, history in histories.items() if not history.epochs]
    notes = []
    if without:
        notes.append(f"no beta, as nothing is subtracted: {', '.join(without)}; the attention is never negative")
    if unlogged:
        notes.append(f"no beta after each epoch, as log/metrics.csv has none: {', '.join(unlogged)}")
    return notes


def _notes(runs: Sequence[OpenRun], similarity: Similarity) -> list[str]:
    particles = int(similarity.particles.rows.sum())
    notes = [
        f"{runs[0].jets:,} test jets with {particles:,} particles; errors of attention: independent jets, to first "
        "order; of CKA: jackknife over ten groups of batches",
        "maps: mean over the jets that have both ranks; a dropped edge counts as zero; the few largest weights are "
        "beyond the colour scale",
        "positive and negative part: sums of the weights of either sign over a target's edges; their difference is "
        "1 - beta (1 without beta) if no edge is dropped after the softmax; negative share: negative part over the sum "
        "of both; |own edge|, |from hardest|: absolute weights of the self-edge, and of the edge from the hardest "
        "particle",
        "CKA: layer 0 is the particle encoder's output, layer l that of block l; tables hold the estimator of unbiased "
        "minibatches (arXiv 2010.15327), figures also the plain one (arXiv 1905.00414); both take rows as independent, "
        "which holds for jets (rows are means over particles), but not for particles of the same jet",
    ]
    if any(map(is_signed, runs)):
        notes.append("attention is signed if beta times a second softmax map is subtracted from the first")
    return notes


def _starts(run: OpenRun) -> list[float] | None:
    """Initial betas; None for a fine-tuned model."""
    if run.run.config.fine_tune is not None:
        return None
    return [conv.initial_beta for conv in run.model.modules() if isinstance(conv, SoftmaxDifference)]


def _levels(similarity: Similarity) -> list[tuple[str, LayerSimilarity]]:
    return [("particle", similarity.particles), ("jet", similarity.jets)]


def _places(layers: Sequence[int]) -> list[slice]:
    ends = torch.tensor(layers).cumsum(0).tolist()
    return [slice(end - number, end) for end, number in zip(ends, layers, strict=True)]


def _at(matrix: tuple[Tensor, Tensor], row: int, column: int) -> Estimate:
    return Estimate(float(matrix[0][row, column]), float(matrix[1][row, column]))


def _file(name: str) -> str:
    return name.replace("/", "-")
