"""What kind of edges survive pruning: their kinematics, their sources, and whether they join two subjets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iagraph.graph import SparseGraph
from iagraph.jets import JetBatch
from iagraph.kinematics import PAIR_FEATURES, charge, to_cartesian
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.studies.pruning_controls import FEATURES

SHOWN = ("log_kt", "log_delta_r", "log_m2")
"""The features of edges whose distributions are looked at."""

SUBJETS = 2
RADIUS = 0.8


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


def subjets(jets: JetBatch, number: int | Sequence[int] = SUBJETS) -> Tensor | None:
    """The number of the subjet of each particle, shape [particles], -1 for none; None if FastJet is not installed.

    A jet's particles are clustered with the exclusive kT algorithm, R = 0.8, down to so many subjets (Catani,
    Dokshitzer, Seymour, Webber, Nucl. Phys. B 406 (1993) 187). What goes to the beam before, some particles at wide
    angles, belongs to none, and neither do the particles of a jet that has fewer of them than there should be subjets.

    Args:
        jets: the jets.
        number: of subjets, of all jets or of each one.
    """
    try:
        import fastjet
    except ImportError:
        return None
    numbers = torch.full((jets.batch.numel(),), -1)
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, RADIUS)
    vectors = torch.stack(to_cartesian(jets.to("cpu").double().momenta), dim=1).tolist()
    numbers_of_subjets = [number] * len(jets) if isinstance(number, int) else number
    for (begin, end), wanted in zip(pairwise(jets.ptr.tolist()), numbers_of_subjets, strict=True):
        if end - begin < wanted:
            continue
        particles = [fastjet.PseudoJet(*vectors[particle]) for particle in range(begin, end)]
        for particle, place in zip(particles, range(begin, end), strict=True):
            particle.set_user_index(place)
        cluster = fastjet.ClusterSequence(particles, definition)
        for index, subjet in enumerate(cluster.exclusive_jets(wanted)):
            numbers[[particle.user_index() for particle in subjet.constituents()]] = index
    return numbers


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
