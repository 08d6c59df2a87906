"""Whole batches, cut from flat arrays: no Python loop over jets, no list of graphs to collate.

Jets come in blocks: in memory a block is one jet, of a store a run of neighbours that is read at once. Pools of many
blocks are gathered, by worker processes if there are any, and shuffled within; the main process only slices batches off
them. A pool takes its blocks evenly from the whole range, so that even jets sorted by class give mixed batches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from iagraph.data.jets import StoreError
from iagraph.data.sources import JetSource, Pool
from iagraph.jets import JetBatch

POOL = 32768
"""Jets gathered at once: some 40 MB, of which each worker process holds up to three."""


class PoolSampler:
    """The pools of an epoch, for PyTorch's ``DataLoader``.

    Args:
        sizes: number of jets of each block.
        shuffle: a new random order each epoch.
        seed: fixes these orders.
        shard: (rank, processes): which share of the jets.

    Attributes:
        epoch: that of the next iteration.
        begin, end: which jets of an epoch are in the share.
        largest_share: number of jets of the largest share.

    Raises:
        ValueError: the rank is not one of the processes.
    """

    def __init__(self, sizes: NDArray[np.int64], shuffle: bool, seed: int, shard: tuple[int, int]) -> None:
        rank, processes = shard
        if not 0 <= rank < processes:
            raise ValueError(f"shard {shard} should be (rank, processes) with 0 <= rank < processes")
        self.sizes, self.shuffle, self.seed, self.epoch = sizes, shuffle, seed, 0
        jets = int(sizes.sum())
        self.begin, self.end = jets * rank // processes, jets * (rank + 1) // processes
        self.largest_share = -(-jets // processes)

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools())

    def _pools(self) -> list[Pool]:
        pools = []
        last = 0
        for number, blocks in enumerate(self._blocks()):
            first, last = last, last + int(self.sizes[blocks].sum())
            if first < self.end and last > self.begin:
                seed = (self.seed, self.epoch, number) if self.shuffle else None
                pools.append(Pool(blocks, seed, max(self.begin - first, 0), min(self.end, last) - first))
        return pools

    def _blocks(self) -> list[NDArray[np.int64]]:
        """The blocks of each pool."""
        blocks = len(self.sizes)
        per_pool = max(1, POOL // max(1, int(self.sizes.max(initial=1))))
        pools = -(-blocks // per_pool)
        if not self.shuffle or pools < 2:
            return np.split(np.arange(blocks), range(per_pool, blocks, per_pool))
        # Runs of as many blocks as there are pools: each pool gets one block of every run (but for the last run).
        runs = np.tile(np.arange(pools), (per_pool, 1))
        pool = np.random.default_rng((self.seed, self.epoch)).permuted(runs, axis=1).ravel()[:blocks]
        return np.split(np.argsort(pool, kind="stable"), np.cumsum(np.bincount(pool, minlength=pools))[:-1])


class JetLoader:
    """Iterable of :class:`JetBatch`: every jet once per epoch, in an order that seed and epoch fix.

    The order does not depend on the number of worker processes. Each iteration is a new epoch. Two iterations at a time
    over one loader with workers disturb each other, as with PyTorch's ``DataLoader``.

    Args:
        jets: the jets, in memory or in stores.
        batch_size: jets per batch; the last one may have fewer.
        shuffle: a new random order each epoch.
        seed: fixes these orders.
        workers: processes that gather the jets; 0 does it in this one.
        max_pairs: most pairs per batch, where a jet of n particles has n (n + 1) / 2, so that no batch exhausts the
            memory; such a batch has fewer jets, and a jet of more pairs is a batch of its own. None sets no limit.
        shard: (rank, processes): the share of one of several processes. Shares differ by at most one jet, have none in
            common, and together are the epoch that a single process has. Without ``max_pairs`` all have equally many
            batches, as processes that train together need: the last one may be without jets. (A share without any jet
            has no batch.)

    Raises:
        ValueError: a size is below 1, or the rank is not one of the processes.
        TypeError: ``jets`` are neither in memory nor in stores as the loader takes them.
        StoreError: jets turn out to be damaged when they are read.
    """

    def __init__(
        self,
        jets: JetSource,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        workers: int = 0,
        max_pairs: int | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or (max_pairs is not None and max_pairs < 1):
            raise ValueError(f"batch_size {batch_size} and max_pairs {max_pairs} should be at least 1")
        if not (hasattr(jets, "sizes") and hasattr(jets, "gather")):
            raise TypeError(
                f"JetLoader takes a JetDataset or StoredJets, found {type(jets).__name__}; choose jets before, as in "
                "JetDataset(jets.take(numbers)) for the Jets of a store"
            )
        self.batch_size, self.max_pairs = batch_size, max_pairs
        self._sampler = PoolSampler(jets.sizes, shuffle, seed, shard)
        self._pools = DataLoader(
            _Gathered(jets),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            collate_fn=_as_it_is,  # by default lists and arrays inside a batch would be converted
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(seed),  # or it would draw from the one that models use
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        """The number of batches; TypeError if a budget of pairs makes it depend on the order of the jets."""
        if self.max_pairs is not None:
            raise TypeError("with max_pairs the number of batches differs from epoch to epoch")
        return -(-self._sampler.largest_share // self.batch_size)

    def __iter__(self) -> Iterator[JetBatch]:
        pools = iter(self._pools)
        self._sampler.epoch += 1
        return self._batches(pools)

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration that of an epoch, the first one being 0."""
        self._sampler.epoch = epoch

    def _batches(self, pools: Iterator[JetBatch | StoreError]) -> Iterator[JetBatch]:
        rest: JetBatch | None = None  # too few for a batch, unless no more come
        for pool in pools:
            if isinstance(pool, StoreError):
                raise pool
            kept = len(rest) if rest is not None else 0
            counts = pool.ptr.diff() if rest is None else torch.cat([rest.ptr.diff(), pool.ptr.diff()])
            begin = 0
            for end in self._ends(counts):
                if rest is not None and begin < kept:
                    # The first batch of a pool; it ends in this pool, or it would have been whole before.
                    yield JetBatch.concatenate([rest, pool.part(0, end - kept)])
                else:
                    yield pool.part(begin - kept, end - kept)
                begin = end
            if begin >= kept:
                rest = pool.part(begin - kept, len(pool))
            elif rest is not None:
                rest = JetBatch.concatenate([rest, pool])
        if rest is None:
            return
        share = self._sampler.end - self._sampler.begin
        # Another share, with one jet more, may have one batch more.
        if len(rest) or (self.max_pairs is None and -(-share // self.batch_size) < len(self)):
            yield rest

    def _ends(self, counts: Tensor) -> Iterator[int]:
        """Where the whole batches among jets of these multiplicities end; what is left after the last is no batch."""
        if self.max_pairs is None:
            yield from range(self.batch_size, counts.numel() + 1, self.batch_size)
            return
        pairs = (counts * (counts + 1) // 2).cumsum(0).numpy()
        begin = 0
        while True:
            spent = pairs[begin - 1] if begin else 0
            fitting = int(np.searchsorted(pairs, spent + self.max_pairs, side="right"))
            end = min(max(fitting, begin + 1), begin + self.batch_size)
            # A batch is whole if it has all the jets it may have, or the next one does not fit.
            if end > len(pairs) or (end == len(pairs) and end - begin < self.batch_size and fitting == end):
                return
            yield end
            begin = end


class _Gathered(Dataset["JetBatch | StoreError"]):
    """The data set of pools that PyTorch's loader asks for.

    Errors are handed over: raised in a worker process, they would come with its traceback for a message.
    """

    def __init__(self, jets: JetSource) -> None:
        self.jets = jets

    def __getitem__(self, pool: Any) -> JetBatch | StoreError:
        try:
            return self.jets.gather(pool)
        except StoreError as error:
            return error


def _as_it_is(batch: Any) -> Any:
    return batch
