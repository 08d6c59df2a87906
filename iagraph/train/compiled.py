"""Compiled networks for training: batches in slots, so that few shapes occur."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from iagraph.jets import JetBatch

SMALLEST = 16
"""Smallest number of slots per jet."""


def slots_for(particles: int) -> int:
    """The smallest of 16, 32, 48, 64, 96, 128, 192, 256 ... slots, two for each factor of two, that hold so many
    particles: at most twelve shapes for jets of up to 1,024.
    """
    slots = SMALLEST
    while slots < particles:
        slots += max(SMALLEST, 2 ** (slots.bit_length() - 2))
    return slots


class InSlots:
    """A model compiled by ``torch.compile``, whose batches are padded to one number of jets and few numbers of slots.
    On a CUDA GPU, its kernels are recorded as CUDA graphs. The weights and their names are those of the model.

    Args:
        model: maps a :class:`JetBatch` to logits.
        batch_size: largest number of jets in a batch.
    """

    backend = "inductor"

    def __init__(self, model: nn.Module, batch_size: int) -> None:
        self.model, self.batch_size = model, batch_size
        self._compiled: Any = None  # as late as possible: averaged weights begin with a copy of all this

    def __call__(self, jets: JetBatch) -> Tensor:
        """Logits of the jets, without those of the padding."""
        if self._compiled is None:
            # One program for each number of slots, in training and in validation.
            torch._dynamo.config.cache_size_limit = max(torch._dynamo.config.cache_size_limit, 32)
            mode = "reduce-overhead" if jets.ptr.device.type == "cuda" and self.backend == "inductor" else None
            self._compiled = torch.compile(self.model, fullgraph=True, dynamic=False, backend=self.backend, mode=mode)
        logits = self._compiled(jets.padded(slots_for(max(jets.sizes, default=0)), self.batch_size))
        # A copy, as the next replay of a CUDA graph overwrites its results.
        return logits[: len(jets)].clone()
