"""Whole batches cut from flat arrays: no Python loop over jets, no graphs to collate.

A block is a single jet in memory, or a run of neighbouring jets read at once from a store. Worker processes, if any,
gather pools of many blocks and shuffle the jets within each pool; the main process only slices batches off the pools.
The blocks of a pool are spread over the whole range of jets, so even jets sorted by class give mixed batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
"""Number of jets gathered at once, about 40 MB; each worker process holds up to three such pools."""


class PoolSampler:
    """The pools of an epoch, for PyTorch's ``DataLoader``.

    Passes over all jets form an endless sequence. Epoch e is the range from e N to (e + 1) N of this sequence, and its
    shards are parts of this range. Only pools that overlap the shard are read.

    Args:
        sizes: number of jets per block.
        shuffle: use a new random order each pass.
        seed: seed of these orders.
        shard: (rank, processes): which shard of the epoch.
        jets_per_epoch: N, which may be less or more than one pass; None means one pass over all jets.

    Attributes:
        epoch: epoch of the next iteration.
        begin, end: range of this shard within each epoch.
        largest_shard: number of jets in the largest shard.

    Raises:
        ValueError: the rank is out of range.
    """

    def __init__(
        self,
        sizes: NDArray[np.int64],
        shuffle: bool,
        seed: int,
        shard: tuple[int, int],
        jets_per_epoch: int | None = None,
    ) -> None:
        rank, processes = shard
        if not 0 <= rank < processes:
            raise ValueError(f"shard {shard} should be (rank, processes) with 0 <= rank < processes")
        self.sizes, self.shuffle, self.seed, self.epoch = sizes, shuffle, seed, 0
        self.jets = int(sizes.sum())
        self.jets_per_epoch = jets_per_epoch if jets_per_epoch and self.jets else self.jets
        self.begin, self.end = (self.jets_per_epoch * k // processes for k in (rank, rank + 1))
        self.largest_shard = -(-self.jets_per_epoch // processes)

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools())

    def _pools(self) -> list[Pool]:
        if not self.jets:
            return []
        pools = []
        begin, end = (self.epoch * self.jets_per_epoch + each for each in (self.begin, self.end))
        stop = max(end, begin + 1)  # an empty shard gets an empty pool, for its empty batch
        for pass_number in range(begin // self.jets, -(-stop // self.jets)):
            last = pass_number * self.jets
            for number, blocks in enumerate(self._blocks(pass_number)):
                first, last = last, last + int(self.sizes[blocks].sum())
                if first < stop and last > begin:
                    seed = (self.seed, pass_number, number) if self.shuffle else None
                    pools.append(Pool(blocks, seed, max(begin - first, 0), min(end, last) - first))
        return pools

    def _blocks(self, pass_number: int) -> list[NDArray[np.int64]]:
        """Block numbers in each pool of a pass."""
        blocks = len(self.sizes)
        per_pool = max(1, POOL // max(1, int(self.sizes.max(initial=1))))
        pools = -(-blocks // per_pool)
        if not self.shuffle or pools < 2:
            return np.split(np.arange(blocks), range(per_pool, blocks, per_pool))
        # Split the blocks into runs of one block per pool, dealt out at random; the last run may be incomplete.
        runs = np.tile(np.arange(pools), (per_pool, 1))
        pool = np.random.default_rng((self.seed, pass_number)).permuted(runs, axis=1).ravel()[:blocks]
        return np.split(np.argsort(pool, kind="stable"), np.cumsum(np.bincount(pool, minlength=pools))[:-1])


class JetLoader:
    """Iterable of :class:`JetBatch`: every jet once per pass over all jets, in an order fixed by seed and pass number.

    The order does not depend on the number of workers. Each iteration is a new epoch: a pass, unless ``jets_per_epoch``
    is given. As with PyTorch's ``DataLoader``, concurrent iterations over one loader with workers interfere.

    Args:
        jets: the jets, in memory or in stores.
        batch_size: jets per batch; the last one may have fewer.
        shuffle: use a new random order each pass.
        seed: seed of these orders.
        workers: processes that gather jets; 0 uses the main process.
        max_pairs: limit on pairs per batch, n (n + 1) / 2 for a jet of n particles, to bound memory: batches then hold
            fewer jets, and a jet with more pairs is a batch of its own. None sets no limit.
        shard: (rank, processes): shard of one of several processes. Shards are disjoint, differ by at most one jet, and
            together make up the epoch of a single process. All have the same number of batches, as distributed
            training requires: the last one may be empty. With ``max_pairs``, this requires ``any_process``.
        jets_per_epoch: number of jets per epoch; each epoch continues where the last one ended, across passes if
            need be. None means all jets.
        any_process: reduction over processes: returns whether a condition holds in any of them, given whether it holds
            in this one. With ``max_pairs``, it is called before each batch; processes that run out of jets early get
            empty batches.

    Raises:
        ValueError: a size is below 1, or the rank is out of range.
        TypeError: ``jets`` is not a source of jets.
        StoreError: jets prove damaged when read.
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
        jets_per_epoch: int | None = None,
        any_process: Callable[[bool], bool] | None = None,
    ) -> None:
        for name, size in (("batch_size", batch_size), ("max_pairs", max_pairs), ("jets_per_epoch", jets_per_epoch)):
            if size is not None and size < 1:
                raise ValueError(f"{name} {size} should be at least 1")
        if not (hasattr(jets, "sizes") and hasattr(jets, "gather")):
            raise TypeError(
                f"JetLoader takes a JetDataset or StoredJets, found {type(jets).__name__}; select jets first, as "
                "in JetDataset(jets.take(numbers)) for the Jets of a store"
            )
        self.batch_size, self.max_pairs, self._any_process = batch_size, max_pairs, any_process
        self._sampler = PoolSampler(jets.sizes, shuffle, seed, shard, jets_per_epoch)
        self._pools = DataLoader(
            _Gathered(jets),
            batch_size=None,
            sampler=self._sampler,
            num_workers=workers,
            collate_fn=_identity,  # the default converts lists and arrays inside a batch
            persistent_workers=workers > 0,
            generator=torch.Generator().manual_seed(seed),  # leaves the global generator, which models use, as it is
            pin_memory=torch.cuda.is_available(),
        )

    def __len__(self) -> int:
        """Number of batches; raises TypeError with ``max_pairs``, as it then depends on the order of the jets."""
        if self.max_pairs is not None:
            raise TypeError("with max_pairs the number of batches differs from epoch to epoch")
        return -(-self._sampler.largest_shard // self.batch_size)

    def __iter__(self) -> Iterator[JetBatch]:
        pools = iter(self._pools)
        self._sampler.epoch += 1
        batches = self._batches(pools)
        if self.max_pairs is None or self._any_process is None:
            return batches
        return _as_many_as_any(batches, self._any_process)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration; the first is 0."""
        self._sampler.epoch = epoch

    def _batches(self, pools: Iterator[JetBatch | StoreError]) -> Iterator[JetBatch]:
        rest: JetBatch | None = None  # too few jets for a batch so far
        for pool in pools:
            if isinstance(pool, StoreError):
                raise pool
            kept = len(rest) if rest is not None else 0
            counts = pool.ptr.diff() if rest is None else torch.cat([rest.ptr.diff(), pool.ptr.diff()])
            begin = 0
            for end in self._ends(counts):
                if rest is not None and begin < kept:
                    # The first batch ends within this pool: otherwise it would have been complete before.
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
        shard = self._sampler.end - self._sampler.begin
        # Other shards may have one more jet, and so one more batch: match it with an empty one.
        if len(rest) or not shard or (self.max_pairs is None and -(-shard // self.batch_size) < len(self)):
            yield rest

    def _ends(self, counts: Tensor) -> Iterator[int]:
        """Ends of the complete batches among jets of these multiplicities."""
        if self.max_pairs is None:
            yield from range(self.batch_size, counts.numel() + 1, self.batch_size)
            return
        pairs = (counts * (counts + 1) // 2).cumsum(0).numpy()
        begin = 0
        while True:
            spent = pairs[begin - 1] if begin else 0
            fitting = int(np.searchsorted(pairs, spent + self.max_pairs, side="right"))
            end = min(max(fitting, begin + 1), begin + self.batch_size)
            # A batch is complete if it is full, or the next jet does not fit.
            if end > len(pairs) or (end == len(pairs) and end - begin < self.batch_size and fitting == end):
                return
            yield end
            begin = end


def _as_many_as_any(batches: Iterator[JetBatch], any_process: Callable[[bool], bool]) -> Iterator[JetBatch]:
    """Yield the batches, then empty ones as long as any process has more batches."""
    batch = following = next(batches, None)
    while batch is not None and any_process(following is not None):
        batch = batch.part(0, 0) if following is None else following
        yield batch
        following = next(batches, None)


class _Gathered(Dataset["JetBatch | StoreError"]):
    """The data set of pools for PyTorch's loader.

    Errors are returned, not raised: PyTorch would replace the message of one raised in a worker with its traceback.
    """

    def __init__(self, jets: JetSource) -> None:
        self.jets = jets

    def __getitem__(self, pool: Any) -> JetBatch | StoreError:
        try:
            return self.jets.gather(pool)
        except StoreError as error:
            return error


def _identity(batch: Any) -> Any:
    return batch
