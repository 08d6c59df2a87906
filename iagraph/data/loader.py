"""From jets in memory to batches: one vectorised gather per batch, no Python loop over jets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from iagraph.data.jets import Jets
from iagraph.graphs import JetBatch
from iagraph.kinematics import Momenta


def keep_hardest(jets: Jets, max_particles: int) -> Jets:
    """The jets with at most ``max_particles`` particles each, those of highest pT, in descending order of pT."""
    jet = np.repeat(np.arange(len(jets)), jets.counts)
    order = np.lexsort((-jets.particles["pt"], jet))
    rank = np.arange(order.size) - np.repeat(jets.offsets[:-1], jets.counts)
    kept = order[rank < max_particles]
    offsets = np.concatenate([[0], np.minimum(jets.counts, max_particles).cumsum()]).astype(np.int64)
    return Jets({name: column[kept] for name, column in jets.particles.items()}, offsets, jets.label, jets.classes)


class JetDataset(Dataset[JetBatch]):
    """Jets in memory; an item is the batch of the jets at an index, a slice, a list of indices or a mask.

    Args:
        jets: the jets, as :func:`iagraph.data.read_store` gives them.
        max_particles: keep so many of the hardest particles of each jet; None keeps all.

    Attributes:
        label: class of each jet, shape [jets].
        multiplicity: number of particles of each jet before any were dropped, shape [jets].
        classes: names of the classes.
    """

    def __init__(self, jets: Jets, max_particles: int | None = None) -> None:
        self.multiplicity = torch.tensor(jets.counts)
        if max_particles is not None:
            jets = keep_hardest(jets, max_particles)
        # Copies, because a column may be a read-only view.
        self.columns = {name: torch.tensor(column) for name, column in jets.particles.items()}
        self.offsets = torch.tensor(jets.offsets)
        self.label = torch.tensor(jets.label)
        self.classes = jets.classes

    def __len__(self) -> int:
        return self.label.numel()

    def __getitem__(self, indices: int | slice | Sequence[int] | Tensor) -> JetBatch:
        index = torch.arange(len(self))[indices].view(-1)
        start = self.offsets[index]
        sizes = self.offsets[index + 1] - start
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        particle = torch.arange(int(ptr[-1])) + (start - ptr[:-1]).repeat_interleave(sizes)
        momenta = Momenta(*(self.columns[name][particle] for name in Momenta._fields))
        pid = self.columns["pid"][particle].long() if "pid" in self.columns else None
        return JetBatch(momenta, ptr, pid, self.label[index])


def jet_loader(
    dataset: JetDataset, batch_size: int, *, shuffle: bool = False, seed: int = 0, workers: int = 0
) -> DataLoader[JetBatch]:
    """Loader of whole batches; every jet comes once per epoch, the last batch may be smaller.

    Args:
        dataset: the jets.
        batch_size: jets per batch.
        shuffle: a new random order each epoch.
        seed: fixes these orders.
        workers: processes that cut the batches; 0 does it in this one.
    """
    order: RandomSampler | SequentialSampler = SequentialSampler(dataset)
    if shuffle:
        order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
    batches = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        collate_fn=_as_it_is,  # by default lists and arrays inside a batch would be converted
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def _as_it_is(batch: Any) -> Any:
    return batch
