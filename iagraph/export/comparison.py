"""Comparison of an exported model, on padded jets, with the model itself, on the same jets in ragged form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from iagraph.export.inputs import input_names, slots_of
from iagraph.jets import JetBatch
from iagraph.kinematics import Momenta
from iagraph.models.attention_tagger import AttentionTagger
from iagraph.models.particle_net import ParticleNet
from iagraph.testing import random_jets
from iagraph.views import WHOLE, JetView

TOLERANCE = 1e-5
"""Largest accepted difference of logits and probabilities, relative as in :func:`difference`."""

MAX_UNDECIDED = 0.01
"""Largest accepted fraction of jets in which rounding decides a choice."""

MULTIPLICITIES = (0, 1, 2, 128, 3, 17, 44, 5, 90, 16, 1, 33)
"""Multiplicities of the random jets used to test every exported model."""

JETS_AT_ONCE = 32
ROUNDING = (1e-7, 3e-7, 1e-6)
"""Sizes of changes of momenta that count as rounding: relative for pT and mass, absolute otherwise."""

Exported = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""An exported model: a function from inputs by name to probabilities and logits."""


class ExportError(RuntimeError):
    """A model cannot be exported, or the exported model gives other results. The message says why."""


class Comparison(NamedTuple):
    """Result of a comparison.

    Attributes:
        jets: number of jets.
        largest: largest difference of logits or probabilities, see :func:`difference`.
        undecided: number of jets left out because rounding decides a neighbour or a dropped edge.
    """

    jets: int
    largest: float
    undecided: int


def compare(exported: Exported, model: nn.Module, batches: Sequence[JetBatch], view: JetView = WHOLE) -> Comparison:
    """Compare an exported model with the model itself on ragged jets.

    A model that selects neighbours or edges is discontinuous at ties. A jet whose results differ is left out if the
    model gives the exported result for momenta changed by rounding; at most :data:`MAX_UNDECIDED` of all jets may be.

    Args:
        exported: the exported model.
        model: the model, in evaluation mode.
        batches: the jets, in addition to :func:`edge_case_jets`.
        view: the model's view of jets.

    Raises:
        ExportError: the results differ or are not finite, or too many jets were left out.
        ValueError: the jets lack an input.
    """
    names, largest, undecided, jets = input_names(model), 0.0, 0, 0
    chooses = isinstance(model, ParticleNet) or (isinstance(model, AttentionTagger) and model.drops_edges)
    with torch.inference_mode():
        for number, batch in enumerate((edge_case_jets(), *batches)):
            sizes = batch.ptr.diff()
            slots = max(int(sizes.max()), 1) + number % 3  # padding must not matter
            probabilities, logits = exported(slots_of(batch, names, slots))
            differs = difference(logits, model(view(batch)))
            for jet in (differs > TOLERANCE).nonzero().flatten().tolist() if chooses else []:
                if _within_rounding(model, view(batch.part(jet, jet + 1)), logits[jet : jet + 1]):
                    differs[jet] = 0.0
                    undecided += 1
            differs = torch.maximum(differs, difference(probabilities, logits.softmax(1)))
            if (worst := float(differs.max())) > TOLERANCE:
                raise ExportError(
                    f"the exported model differs by {worst:.1e} from PyTorch's for a jet of "
                    f"{int(sizes[differs.argmax()])} particles, more than {TOLERANCE:g}; no file was written"
                )
            jets, largest = jets + len(batch), max(largest, worst)
    if undecided > MAX_UNDECIDED * jets:
        raise ExportError(
            f"rounding decides a neighbour or a dropped edge in {undecided} of {jets} jets, too many for a "
            "comparison; no file was written"
        )
    return Comparison(jets, largest, undecided)


def difference(found: Tensor, expected: Tensor) -> Tensor:
    """Largest difference per row, divided by the largest expected magnitude if above one; huge if not finite."""
    size = expected.abs().amax(1, keepdim=True).clamp(min=1)
    return ((found - expected) / size).abs().nan_to_num(torch.inf).amax(1)


def edge_case_jets() -> JetBatch:
    """Random jets with zero, one, two and many particles."""
    return random_jets(MULTIPLICITIES, seed=7)


def _within_rounding(model: nn.Module, jet: JetBatch, logits: Tensor) -> bool:
    """Whether the model gives these logits for some momenta that differ by rounding."""
    random = torch.Generator().manual_seed(1)
    changed = []
    for size in ROUNDING * 8:
        pt, rapidity, phi, mass = (size * torch.randn(each.shape, generator=random) for each in jet.momenta)
        old = jet.momenta
        momenta = Momenta(old.pt * (1 + pt), old.rapidity + rapidity, old.phi + phi, old.mass * (1 + mass))
        changed.append(replace(jet, momenta=momenta))
    return bool((difference(logits, model(JetBatch.concatenate(changed))) <= TOLERANCE).any())
