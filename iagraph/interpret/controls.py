r"""Edges chosen before the model, by chance or by kinematics: what pruning by attention is to be held against.

Every particle keeps the edge with itself, which counts for nothing. Distances and :math:`k_T` are those of pairs,
:math:`\Delta R = \sqrt{\Delta y^2 + \Delta\phi^2}` and :math:`k_T = \min(p_{T1}, p_{T2}) \Delta R` in GeV.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iagraph.graph import SparseGraph, unordered_pairs
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES
from iagraph.nn.pruning import EdgeBudget, PruningRule, TopK

FEATURES = "part"
SEED = 1

ChooseEdges = Callable[[JetBatch], Tensor]
"""Makes the edges of jets, rows (source, target), shape [2, edges]."""


def random_edges(jets: JetBatch, fraction: float) -> Tensor:
    """Pairs by chance, both edges of each; the same batch gets the same ones each time.

    Args:
        jets: the jets.
        fraction: of a jet's pairs of different particles, rounded up.
    """
    random = torch.Generator().manual_seed(SEED)
    return _best_pairs(jets, fraction, lambda first, _: torch.rand(first.numel(), generator=random).to(first.device))


def largest_kt(jets: JetBatch, fraction: float) -> Tensor:
    """Both edges of the pairs of largest kT; arguments as in :func:`random_edges`."""
    return _best_pairs(jets, fraction, lambda first, second: pair_feature(jets, "log_kt", first, second).exp())


def smallest_delta_r(jets: JetBatch, fraction: float) -> Tensor:
    """Both edges of the pairs of smallest Delta R; arguments as in :func:`random_edges`."""
    return _best_pairs(jets, fraction, lambda first, second: _closeness(jets, first, second))


def nearest_neighbors(jets: JetBatch, k: float) -> Tensor:
    """To each particle the edges from the ``k`` others of smallest Delta R, of all where there are no more than k.

    Args:
        jets: the jets.
        k: a whole number.
    """
    graph = jets.prunable_graph()
    assert isinstance(graph, SparseGraph)
    return _chosen(TopK(k=int(k)), _closeness(jets, graph.first, graph.second), graph).edge_index


CONTROLS: dict[str, tuple[Callable[[JetBatch, float], Tensor], str]] = {
    "random": (random_edges, "edge_budget"),
    "largest kT": (largest_kt, "edge_budget"),
    "smallest Delta R": (smallest_delta_r, "edge_budget"),
    "nearest neighbors": (nearest_neighbors, "top_k"),
}
"""The controls by name, and the rule whose number they share: with it they keep as many edges as its first layer."""


def control(name: str, strength: float) -> ChooseEdges:
    """A control of :data:`CONTROLS` with its number, a fraction or k."""
    choose, _ = CONTROLS[name]
    return lambda jets: choose(jets, strength)


def pair_feature(jets: JetBatch, name: str, first: Tensor, second: Tensor) -> Tensor:
    """A feature of pairs by its name in :data:`iagraph.kinematics.PAIR_FEATURES`, shape [pairs]."""
    return jets.edge_features(FEATURES, first, second)[PAIR_FEATURES[FEATURES].index(name)]


def _closeness(jets: JetBatch, first: Tensor, second: Tensor) -> Tensor:
    """One over Delta R: rules take the largest of numbers that are not negative."""
    return pair_feature(jets, "log_delta_r", first, second).neg().exp()


def _best_pairs(jets: JetBatch, fraction: float, worth: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    pairs = SparseGraph.from_pairs(*unordered_pairs(jets.ptr), jets.batch, len(jets))
    kept, _ = pairs.keep_strongest_pairs(worth(pairs.first, pairs.second), EdgeBudget(fraction=fraction).number)
    return kept.edge_index


def _chosen(rule: PruningRule, worth: Tensor, graph: SparseGraph) -> SparseGraph:
    """The graph with the edges that a rule chooses by a worth of pairs that is not negative; those of a particle with
    itself stay.
    """
    (kept,) = graph.keep(rule(graph.scores([worth.unsqueeze(0)]), graph).any(0))
    return kept
