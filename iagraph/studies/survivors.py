"""What kind of edges survive pruning: their kinematics, their sources, and whether they join two subjets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iagraph.graph import SparseGraph
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES, charge
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.observables import subjets
from iagraph.studies.pruning_controls import FEATURES

SHOWN = ("log_kt", "log_delta_r", "log_m2")
"""The features of edges whose distributions are looked at."""


class Survivors(NamedTuple):
    """The edges between different particles of some jets, and which of them survive.

    Attributes:
        features: those of :data:`SHOWN`, shape [3, edges].
        kept: which are left after the first and after the last layer, shape [2, edges].
        charged: whose source has a charge, shape [edges]; None where species are not known.
        between_subjets: which join two subjets, shape [edges]; None without FastJet.
    """

    features: Tensor
    kept: Tensor
    charged: Tensor | None
    between_subjets: Tensor | None


@torch.inference_mode()
def find_survivors(tagger: AttentionTagger, batches: Sequence[JetBatch]) -> Survivors:
    """What a tagger with a rule makes of the edges of jets.

    Args:
        tagger: in evaluation mode.
        batches: the jets, on the device of the tagger.
    """
    parts = [_of_batch(tagger, jets) for jets in batches]
    features, kept = (torch.cat(each, 1) for each in zip(*((part.features, part.kept) for part in parts), strict=True))
    return Survivors(features, kept, _joined(p.charged for p in parts), _joined(p.between_subjets for p in parts))


def _of_batch(tagger: AttentionTagger, jets: JetBatch) -> Survivors:
    graph = jets.prunable_graph()  # in the order of the numbers that the tagger gives the edges
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
    return Survivors(features[:, between].cpu(), kept[:, between].cpu(), charged, joins)


def shares(survivors: Survivors) -> list[dict[str, Any]]:
    """How many edges there are and survive, and the shares of kinds among them: nan of no edges, None where unknown."""
    rows = []
    everything = torch.ones_like(survivors.kept[0])
    groups = {"all edges": everything, "after first layer": survivors.kept[0], "after last layer": survivors.kept[1]}
    for name, group in groups.items():
        charged = _share(survivors.charged, group)
        row = {"edges": name, "number": int(group.sum()), "charged source": charged}
        row["neutral source"] = None if charged is None else 1 - charged
        rows.append(row | {"between subjets": _share(survivors.between_subjets, group)})
    return rows


def shares_cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Cells of their table, the first line of which are the headings."""
    return [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]


def _joined(parts: Iterable[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def _share(kind: Tensor | None, group: Tensor) -> float | None:
    return None if kind is None else float(kind[group].double().mean())


def _text(value: str | int | float | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
