"""Whether an exported model gives what the model gives: the same jets through both, ragged and padded."""

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
"""Largest difference of logits, relative to the largest logit of a jet where that is above one."""

MOST_UNDECIDED = 0.01
"""Largest fraction of jets of which rounding may decide a choice."""

MULTIPLICITIES = (0, 1, 2, 128, 3, 17, 44, 5, 90, 16, 1, 33)
"""Numbers of particles of the jets that every exported model is tried on."""

JETS_AT_ONCE = 32
ROUNDING = (1e-7, 3e-7, 1e-6)
"""Sizes of changes of momenta that count as rounding."""

Exported = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]
"""An exported model: from inputs by name to probabilities and logits."""


class ExportError(RuntimeError):
    """A model cannot be exported, or what was exported gives something else. The message says why."""


class Comparison(NamedTuple):
    """What came out.

    Attributes:
        jets: the number of jets.
        largest: the largest difference.
        undecided: jets left out of it, of which rounding decides who is a neighbour, or which edge is dropped.
    """

    jets: int
    largest: float
    undecided: int


def compare(exported: Exported, model: nn.Module, batches: Sequence[JetBatch], view: JetView = WHOLE) -> Comparison:
    """Compares an exported model with the model itself, which gets the jets as they are, ragged.

    A model that chooses neighbours or edges jumps where two are equally good. A jet for which both differ is left out
    if the model gives the exported result, too, for momenta changed by no more than rounding; few jets may be.

    Args:
        exported: the exported model.
        model: the model, in evaluation mode.
        batches: the jets. Those of :func:`odd_jets` are tried, too.
        view: what the model sees of them.

    Raises:
        ExportError: the results differ, or are no numbers.
        ValueError: the jets lack an input.
    """
    names, largest, undecided, jets = input_names(model), 0.0, 0, 0
    chooses = isinstance(model, ParticleNet) or (isinstance(model, AttentionTagger) and model.drops_edges)
    with torch.inference_mode():
        for number, batch in enumerate((odd_jets(), *batches)):
            sizes = batch.ptr.diff()
            slots = max(int(sizes.max()), 1) + number % 3  # for padding must not matter
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
    if undecided > MOST_UNDECIDED * jets:
        raise ExportError(
            f"of {undecided} of {jets} jets rounding decides who is a neighbour or which edge is dropped, too many to "
            "compare the exported model by; no file was written"
        )
    return Comparison(jets, largest, undecided)


def difference(found: Tensor, expected: Tensor) -> Tensor:
    """By how much rows differ, relative to the largest number of a row if that is above one; infinite if not finite."""
    size = expected.abs().amax(1, keepdim=True).clamp(min=1)
    return ((found - expected) / size).abs().nan_to_num(torch.inf).amax(1)


def odd_jets() -> JetBatch:
    """Random jets with no, one, two and many particles."""
    return random_jets(MULTIPLICITIES, seed=7)


def _within_rounding(model: nn.Module, jet: JetBatch, logits: Tensor) -> bool:
    """Whether the model gives these logits for the jet with momenta that differ by rounding."""
    random = torch.Generator().manual_seed(1)
    changed = []
    for size in ROUNDING * 8:
        pt, rapidity, phi, mass = (size * torch.randn(each.shape, generator=random) for each in jet.momenta)
        old = jet.momenta
        momenta = Momenta(old.pt * (1 + pt), old.rapidity + rapidity, old.phi + phi, old.mass * (1 + mass))
        changed.append(replace(jet, momenta=momenta))
    return bool((difference(logits, model(JetBatch.concatenate(changed))) <= TOLERANCE).any())
