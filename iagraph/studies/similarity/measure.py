"""One pass over the jets of runs: attention maps of each, and how alike all layers of all of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from iagraph.jets import JetBatch
from iagraph.segment import segment_sum
from iagraph.studies.of_run import OpenRun
from iagraph.studies.recording import node_vectors, record_attention
from iagraph.studies.similarity.attention_maps import RANKS, MeanMaps, jet_maps
from iagraph.studies.similarity.layer_similarity import LayerSimilarity


def jet_vectors(vectors: Tensor, jets: JetBatch) -> Tensor:
    """Mean of the vectors of a jet's particles, for jets that have some; shape [jets with particles, width]."""
    sizes = jets.ptr.diff()
    sums = segment_sum(vectors, jets.batch, len(jets), jets.ptr)
    return sums[sizes > 0] / sizes[sizes > 0].unsqueeze(1)


@torch.inference_mode()
def mean_maps(run: OpenRun, ranks: int = RANKS) -> list[MeanMaps]:
    """The averaged attention maps of each layer of a run."""
    maps: list[MeanMaps] = []
    for batch in run.batches:
        jets = batch.to(run.device)
        layers = record_attention(run.model, jets).layers
        maps = maps or [MeanMaps(layer.alpha.size(1), ranks) for layer in layers]
        for mine, layer in zip(maps, layers, strict=True):
            mine.add(layer, jets)
    return maps


class Example(NamedTuple):
    """A jet, and the attention of the last layer in it.

    Attributes:
        jet: its number among the jets.
        kind: its class.
        maps: shape [heads, particles, particles], target before source, by falling pT.
    """

    jet: int
    kind: str
    maps: Tensor


@torch.inference_mode()
def example(run: OpenRun) -> Example:
    """The attention of the last layer in a jet of usual multiplicity: the first one that has the median."""
    sizes = torch.cat([batch.ptr.diff() for batch in run.batches])
    number = int((sizes == sizes.median()).nonzero()[0])
    place, within = 0, number
    while within >= len(run.batches[place]):
        within -= len(run.batches[place])
        place += 1
    batch = run.batches[place].part(within, within + 1)
    assert batch.y is not None
    jets = batch.to(run.device)
    layer = record_attention(run.model, jets).layers[-1]
    return Example(number, run.run.classes[int(batch.y)], jet_maps(layer, jets, 0).cpu())


class Similarity(NamedTuple):
    """How alike the layers of some runs are, those of the first run first.

    Attributes:
        layers: number of layers of each run, that of the encoder's output included.
        particles: a row per particle.
        jets: a row per jet, the mean over its particles.
    """

    layers: list[int]
    particles: LayerSimilarity
    jets: LayerSimilarity


@torch.inference_mode()
def layer_similarity(runs: Sequence[OpenRun]) -> Similarity:
    """Compares all layers of runs that have the same jets, also between runs.

    Layer 0 is what the particle encoder gives to the first block, layer l what leaves block l.
    """
    found: Similarity | None = None
    for batches in zip(*(run.batches for run in runs), strict=True):
        counts, particles, means = [], [], []
        for run, batch in zip(runs, batches, strict=True):
            jets = batch.to(run.device)
            vectors = node_vectors(run.model, jets)
            counts.append(len(vectors))
            particles += [layer.cpu() for layer in vectors]
            means += [jet_vectors(layer.double(), jets).cpu() for layer in vectors]
        if found is None:
            widths = [layer.size(1) for layer in particles]
            found = Similarity(counts, LayerSimilarity(widths), LayerSimilarity(widths))
        found.particles.add(particles)
        found.jets.add(means)
    assert found is not None, "runs have jets"
    return found
