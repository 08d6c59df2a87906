"""Schedules: values as functions of the progress of a training run, which goes from 0 to 1."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Shape = Literal["linear", "cosine", "steps"]
STEPS = 4


class Tightening(NamedTuple):
    r"""How strictly gates and pruning rules apply, from 0 (not at all) to 1 (fully).

    With :math:`p` the progress of the training divided by ``until``, at most 1, the strength is

    - linear: :math:`p`
    - cosine: :math:`(1 - \cos \pi p) / 2`, slow at both ends
    - steps: :math:`\lfloor 4 p \rfloor / 4`, so that the number of edges changes only a few times

    Attributes:
        until: fraction of the training after which gates and rules apply fully; 0 means from the first step.
        shape: see above.
    """

    until: float
    shape: Shape = "linear"

    def at(self, progress: float) -> float:
        """The strength after a fraction of the training."""
        p = min(progress / self.until, 1.0) if self.until else 1.0
        if self.shape == "cosine":
            return (1 - math.cos(math.pi * p)) / 2
        return math.floor(STEPS * p) / STEPS if self.shape == "steps" else p


def warmup_cosine(progress: float, warmup: float, lowest: float) -> float:
    """Learning rate as a fraction of the peak: linear rise, then half a cosine.

    Args:
        progress: finished fraction of the training, from 0 to 1.
        warmup: fraction of the training over which the rate rises linearly.
        lowest: value at the end of the cosine.
    """
    if progress < warmup:
        # Not zero, so the first step is not wasted.
        return max(progress / warmup, 0.01)
    angle = math.pi * min((progress - warmup) / (1 - warmup), 1.0)
    return lowest + (1 - lowest) * (1 + math.cos(angle)) / 2
