"""How much the outputs of trained models move: with the seed of their training, and with the measurement of jets."""

from iagraph.studies.stability.groups import Group, grouped
from iagraph.studies.stability.outputs import Judged, Spread, flips, rank_correlation, spread, total_variation
from iagraph.studies.stability.perturbations import (
    drop_particles,
    drop_soft,
    keep_particles,
    smear_direction,
    smear_pt,
)
from iagraph.studies.stability.report import study
from iagraph.studies.stability.response import KINDS, Kind, Response, responses

__all__ = [
    "KINDS",
    "Group",
    "Judged",
    "Kind",
    "Response",
    "Spread",
    "drop_particles",
    "drop_soft",
    "flips",
    "grouped",
    "keep_particles",
    "rank_correlation",
    "responses",
    "smear_direction",
    "smear_pt",
    "spread",
    "study",
    "total_variation",
]
