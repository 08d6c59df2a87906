"""Measurements of runs: attention maps of each, similarity of all layers, and beta during training."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iagraph.interpret.attention_maps import MeanMaps, jet_maps
from iagraph.interpret.cka import LayerSimilarity
from iagraph.interpret.interventions import trace
from iagraph.interpret.recording import record_attention
from iagraph.jets import JetBatch
from iagraph.studies.runs import OpenRun
from iagraph.train.folder import RunError
from iagraph.train.module import betas

PREFIX = "beta/"


@torch.inference_mode()
def mean_maps(run: OpenRun) -> list[MeanMaps]:
    """Mean attention maps of each layer of a run."""
    maps: list[MeanMaps] = []
    for batch in run.batches:
        jets = batch.to(run.device)
        layers = record_attention(run.model, jets).layers
        maps = maps or [MeanMaps(layer.alpha.size(1)) for layer in layers]
        for mine, layer in zip(maps, layers, strict=True):
            mine.add(layer, jets)
    return maps


class Example(NamedTuple):
    """Attention of the last layer in one jet.

    Attributes:
        jet: index of the jet.
        kind: class of the jet.
        maps: shape [heads, particles, particles], target before source, particles in descending order of pT.
    """

    jet: int
    kind: str
    maps: Tensor


@torch.inference_mode()
def example(run: OpenRun) -> Example:
    """Attention of the last layer in the first jet with median multiplicity."""
    sizes = torch.cat([batch.ptr.diff() for batch in run.batches])
    number = int((sizes == sizes.median()).nonzero()[0])
    jets = JetBatch.concatenate(run.batches).part(number, number + 1).to(run.device)
    layer = record_attention(run.model, jets).layers[-1]
    return Example(number, run.run.classes[run.truth.labels[number]], jet_maps(layer, jets, 0).cpu())


class Similarity(NamedTuple):
    """Similarity of the layers of runs, those of the first run first.

    Attributes:
        layers: number of layers of each run, the encoder's output included.
        particles: similarity of activations with a row per particle.
        jets: similarity of activations with a row per jet, the mean over its particles.
    """

    layers: list[int]
    particles: LayerSimilarity
    jets: LayerSimilarity


@torch.inference_mode()
def layer_similarity(runs: Sequence[OpenRun]) -> Similarity:
    """Similarity of all layers, within and between runs, which must have the same jets.

    Layer 0 is the output of the particle encoder, layer l that of block l.
    """
    found: Similarity | None = None
    for batches in zip(*(run.batches for run in runs), strict=True):
        counts, particles, means = [], [], []
        for run, batch in zip(runs, batches, strict=True):
            jets = batch.to(run.device)
            vectors, graph = trace(run.model, jets).x, jets.graph()
            counts.append(len(vectors))
            particles += [layer.cpu() for layer in vectors]
            means += [graph.mean(layer.double())[jets.ptr.diff() > 0].cpu() for layer in vectors]
        if found is None:
            widths = [layer.size(1) for layer in particles]
            found = Similarity(counts, LayerSimilarity(widths), LayerSimilarity(widths))
        found.particles.add(particles)
        found.jets.add(means)
    assert found is not None, "runs have jets"
    return found


class BetaHistory(NamedTuple):
    """Beta during training.

    Attributes:
        epochs: numbers of the epochs, from 1.
        layers: beta after each epoch by name of the layer; the mean over heads if each has its own.
    """

    epochs: list[int]
    layers: dict[str, list[float]]


def beta_history(run: Path) -> BetaHistory:
    """Logged beta of each layer after each epoch; empty without a log.

    Raises:
        RunError: the log is damaged.
    """
    rows: dict[int, dict[str, float]] = {}
    path = run / "log" / "metrics.csv"
    if path.is_file():
        try:
            for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
                values = {
                    key.removeprefix(PREFIX): float(row[key]) for key in row if key.startswith(PREFIX) and row[key]
                }
                if values:
                    rows[int(row["epoch"]) + 1] = values
        except (ValueError, KeyError, AttributeError) as error:
            raise RunError(f"{path}: damaged ({error}); delete it to leave out the history of beta") from error
    epochs = sorted(rows)
    names = dict.fromkeys(name for epoch in epochs for name in rows[epoch])
    return BetaHistory(epochs, {name: [rows[epoch][name] for epoch in epochs] for name in names})


def kept_epoch(model: nn.Module, history: BetaHistory) -> int | None:
    """The epoch whose weights the run kept: the one with betas nearest to the model's; None without betas or log."""
    found = {name: sum(beta) / len(beta) for name, beta in betas(model).items()}
    if not history.epochs or not found or set(found) != set(history.layers):
        return None
    distance = [
        sum(abs(history.layers[name][place] - beta) for name, beta in found.items())
        for place in range(len(history.epochs))
    ]
    return history.epochs[distance.index(min(distance))]
