"""How the outputs of a trained model respond when the same jets are measured a little differently."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator

from iagraph.jets import JetBatch
from iagraph.metrics import Estimate
from iagraph.studies.of_run import OpenRun
from iagraph.studies.stability.outputs import Floats, Judged, flips, mean, total_variation
from iagraph.studies.stability.perturbations import drop_particles, drop_soft, smear_direction, smear_pt

SEEDS = 3
"""How often what is random is repeated."""


class Kind(NamedTuple):
    """A way to change jets.

    Attributes:
        name: what it is called.
        unit: in which its sizes are given on an axis.
        sizes: how strong, from weak to strong.
        change: changes jets by a size with random numbers, or without.
        random: whether it needs any.
    """

    name: str
    unit: str
    sizes: tuple[float, ...]
    change: Callable[..., JetBatch]
    random: bool = True

    def changes(self, size: float) -> list[Callable[[JetBatch], JetBatch]]:
        """Changes of this size, one for each seed; each goes on through its random numbers batch by batch."""

        def with_numbers_from(*generator: Generator) -> Callable[[JetBatch], JetBatch]:
            return lambda jets: self.change(jets, size, *generator)

        if not self.random:
            return [with_numbers_from()]
        return [with_numbers_from(Generator().manual_seed(seed)) for seed in range(1, SEEDS + 1)]


KINDS = (
    Kind("smeared pT", "relative resolution of $p_T$", (0.01, 0.02, 0.05, 0.1), smear_pt),
    Kind("smeared directions", r"resolution of $y$ and $\phi$ [rad]", (0.005, 0.01, 0.02), smear_direction),
    Kind("lost particles", "probability to lose a particle", (0.05, 0.1, 0.2), drop_particles),
    Kind("lost soft particles", "lost below $p_T$ [GeV]", (0.5, 1.0, 2.0), drop_soft, random=False),
)
"""What is tried."""


class Response(NamedTuple):
    """What a change of the jets does to the outputs of a run, mean over the seeds of the random numbers.

    The errors are those of a finite number of jets. That of the AUC is the mean of the errors for single seeds, so
    rather too large; those of the others are of the mean over seeds.

    Attributes:
        kind: name of the change.
        size: how strong.
        auc_change: AUC on the changed jets minus that on the jets as they are.
        accuracy_change: the same of the accuracy.
        variation: mean absolute change of the signal probability; of more classes total variation.
        flip_rate: share of jets whose most probable class changes.
    """

    kind: str
    size: float
    auc_change: Estimate
    accuracy_change: Estimate
    variation: Estimate
    flip_rate: Estimate


def no_change(jets: JetBatch) -> JetBatch:
    """The jets as they are."""
    return jets


@torch.inference_mode()
def logits_of(run: OpenRun, change: Callable[[JetBatch], JetBatch] = no_change) -> Floats:
    """Logits of the jets of a run after a change, shape [jets, classes]."""
    parts = [run.model(change(batch).to(run.device)).double().cpu().numpy() for batch in run.batches]
    return np.concatenate(parts)


def judged(run: OpenRun) -> Judged:
    """Who the jets of a run are."""
    labels = np.concatenate([_labels(batch) for batch in run.batches])
    signal = run.run.config.data.signal
    return Judged(labels, None if signal is None else run.run.classes.index(signal))


def response(kind: str, size: float, changed: Sequence[Floats], before: Floats, jets: Judged) -> Response:
    """Compares logits.

    Args:
        kind: name of the change.
        size: how strong.
        changed: logits of the changed jets, for each seed, shape [jets, classes].
        before: logits of the jets as they are.
        jets: the jets.
    """
    aucs = [jets.auc_change(logits, before) for logits in changed]
    right = before.argmax(axis=1) == jets.labels
    gains = [(logits.argmax(axis=1) == jets.labels) * 1.0 - right for logits in changed]
    return Response(
        kind,
        size,
        Estimate(*(float(np.mean(each)) for each in zip(*aucs, strict=True))),
        mean(np.mean(gains, axis=0)),
        mean(np.mean([total_variation(logits, before) for logits in changed], axis=0)),
        mean(np.mean([flips(logits, before) for logits in changed], axis=0)),
    )


def responses(run: OpenRun, before: Floats, kinds: Sequence[Kind] = KINDS) -> list[Response]:
    """What each change of each size does to the outputs of a run.

    Args:
        run: the run.
        before: its logits of the jets as they are.
        kinds: the changes.
    """
    jets = judged(run)
    return [
        response(kind.name, size, [logits_of(run, change) for change in kind.changes(size)], before, jets)
        for kind in kinds
        for size in kind.sizes
    ]


def _labels(batch: JetBatch) -> np.ndarray:
    assert batch.y is not None
    return batch.y.numpy()
