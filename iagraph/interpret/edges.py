r"""Edges chosen before the model runs, at random or by kinematics, and the kinds of edges that a pruning rule keeps.

Edges chosen in advance are controls for pruning by attention. Every particle keeps its self-edge, which is not counted.
For a pair, :math:`\Delta R = \sqrt{\Delta y^2 + \Delta\phi^2}` and :math:`k_T = \min(p_{T1}, p_{T2}) \Delta R` in GeV.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iagraph.graph import SparseGraph, unordered_pairs
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES, charge
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.nn.pruning import EdgeBudget, TopK
from iagraph.observables import subjets

FEATURES = "part"
SEED = 1

SHOWN = ("log_kt", "log_delta_r", "log_m2")
"""Edge features whose distributions are shown."""

ChooseEdges = Callable[[JetBatch], Tensor]
"""Function from jets to edges within them, rows (source, target), shape [2, edges]."""


def random_edges(jets: JetBatch, fraction: float) -> Tensor:
    """Both directed edges of randomly chosen pairs; every call on a batch chooses the same pairs.

    Args:
        jets: the jets.
        fraction: fraction of each jet's pairs of different particles to choose, rounded up to whole pairs.
    """
    random = torch.Generator().manual_seed(SEED)
    return _best_pairs(jets, fraction, lambda first, _: torch.rand(first.numel(), generator=random).to(first.device))


def largest_kt(jets: JetBatch, fraction: float) -> Tensor:
    """Both directed edges of the pairs with the largest kT; arguments as in :func:`random_edges`."""
    return _best_pairs(jets, fraction, lambda first, second: pair_feature(jets, "log_kt", first, second).exp())


def smallest_delta_r(jets: JetBatch, fraction: float) -> Tensor:
    """Both directed edges of the pairs with the smallest Delta R; arguments as in :func:`random_edges`."""
    return _best_pairs(jets, fraction, lambda first, second: _closeness(jets, first, second))


def nearest_neighbors(jets: JetBatch, k: float) -> Tensor:
    """Edges to each particle from its k nearest others by Delta R, or from all if there are at most k.

    Args:
        jets: the jets.
        k: number of neighbors, an integer.
    """
    graph = jets.prunable_graph()
    assert isinstance(graph, SparseGraph)
    closeness = graph.scores([_closeness(jets, graph.first, graph.second).unsqueeze(0)])
    (kept,) = graph.keep(TopK(k=int(k))(closeness, graph).any(0))
    return kept.edge_index


CONTROLS: dict[str, tuple[Callable[[JetBatch, float], Tensor], str]] = {
    "random": (random_edges, "edge_budget"),
    "largest kT": (largest_kt, "edge_budget"),
    "smallest Delta R": (smallest_delta_r, "edge_budget"),
    "nearest neighbors": (nearest_neighbors, "top_k"),
}
"""Controls by name, each with the pruning rule that keeps as many edges in the first layer at equal strength."""


def control(name: str, strength: float) -> ChooseEdges:
    """A control from :data:`CONTROLS` with a given strength: k for nearest neighbors, else a fraction of pairs."""
    choose, _ = CONTROLS[name]
    return lambda jets: choose(jets, strength)


def pair_feature(jets: JetBatch, name: str, first: Tensor, second: Tensor) -> Tensor:
    """A pair feature by its name in the set ``part`` of :data:`iagraph.kinematics.PAIR_FEATURES`, shape [pairs].

    Args:
        jets: the jets.
        name: name of the feature.
        first: one particle of each pair, shape [pairs].
        second: the other particle, shape [pairs].
    """
    return jets.edge_features(FEATURES, first, second)[PAIR_FEATURES[FEATURES].index(name)]


def _closeness(jets: JetBatch, first: Tensor, second: Tensor) -> Tensor:
    """1 / Delta R, because rules keep the largest of non-negative numbers."""
    return pair_feature(jets, "log_delta_r", first, second).neg().exp()


def _best_pairs(jets: JetBatch, fraction: float, worth: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    pairs = SparseGraph.from_pairs(*unordered_pairs(jets.ptr), jets.batch, len(jets))
    kept, _ = pairs.keep_strongest_pairs(worth(pairs.first, pairs.second), EdgeBudget(fraction=fraction).number)
    return kept.edge_index


class KeptEdges(NamedTuple):
    """Edges between different particles, and which of them are kept.

    Attributes:
        features: those of :data:`SHOWN`, shape [3, edges].
        kept: whether the first and the last layer keep the edge, shape [2, edges].
        charged: whether the source particle is charged, shape [edges]; None if species are unknown.
        between_subjets: whether the edge joins two subjets, shape [edges]; None without FastJet.
    """

    features: Tensor
    kept: Tensor
    charged: Tensor | None
    between_subjets: Tensor | None


@torch.inference_mode()
def find_kept_edges(tagger: AttentionTagger, batches: Sequence[JetBatch]) -> KeptEdges:
    """Edges of jets, and which of them a tagger with a pruning rule keeps.

    Args:
        tagger: the tagger, in evaluation mode.
        batches: the jets, on the device of the tagger.
    """
    parts = [_of_batch(tagger, jets) for jets in batches]
    features, kept = (torch.cat(each, 1) for each in zip(*((part.features, part.kept) for part in parts), strict=True))
    return KeptEdges(features, kept, _joined(p.charged for p in parts), _joined(p.between_subjets for p in parts))


def _of_batch(tagger: AttentionTagger, jets: JetBatch) -> KeptEdges:
    graph = jets.prunable_graph()  # in the order of the tagger's edge ids
    assert isinstance(graph, SparseGraph)
    source, target = graph.edge_index
    _, weights = tagger(jets, return_attention_weights=True)
    kept = torch.zeros(2, source.numel(), dtype=torch.bool, device=source.device)
    for row, (_, _, edge_ids) in zip(kept, (weights[0], weights[-1]), strict=True):
        row[edge_ids] = True
    between = source != target
    rows = [PAIR_FEATURES[FEATURES].index(name) for name in SHOWN]
    features = graph.scores([jets.edge_features(FEATURES, graph.first, graph.second)[rows]])
    charged = None if jets.pid is None else (charge(jets.pid) != 0)[source][between].cpu()
    subjet = subjets(jets)
    joins = None
    if subjet is not None:
        one, other = subjet[source.cpu()], subjet[target.cpu()]
        joins = ((one != other) & (one >= 0) & (other >= 0))[between.cpu()]
    return KeptEdges(features[:, between].cpu(), kept[:, between].cpu(), charged, joins)


def kinds_of_edges(found: KeptEdges) -> list[dict[str, Any]]:
    """Table rows for all edges and those kept after the first and last layer: their number, and the fraction of each
    kind (NaN without edges, None if unknown).
    """
    rows = []
    everything = torch.ones_like(found.kept[0])
    groups = {"all edges": everything, "after first layer": found.kept[0], "after last layer": found.kept[1]}
    for name, group in groups.items():
        charged = _fraction(found.charged, group)
        row = {"edges": name, "number": int(group.sum()), "charged source": charged}
        row["neutral source"] = None if charged is None else 1 - charged
        rows.append(row | {"between subjets": _fraction(found.between_subjets, group)})
    return rows


def _joined(parts: Iterable[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _fraction(kind: Tensor | None, group: Tensor) -> float | None:
    return None if kind is None else float(kind[group].double().mean())
