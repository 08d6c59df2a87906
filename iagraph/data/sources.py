"""Sources of jets for the loader, in memory or in stores, read block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from iagraph.data.jets import Jets, StoreError
from iagraph.data.store import JetStore
from iagraph.jets import JetBatch
from iagraph.kinematics import Impact, Momenta
from iagraph.views import JetView, Masses, hardest

BLOCK = 1024
"""Number of jets read from a store at once. HDF5 decompresses whole chunks, beyond the ends of a block: about a fifth
more particles than needed here, three quarters more with blocks of 256. Larger blocks mix less: a pool has 32 blocks.
"""

Index = int | slice | Sequence[int] | Tensor


class Pool(NamedTuple):
    """A selection of jets to gather at once.

    Attributes:
        blocks: numbers of the blocks that hold them.
        seed: seed of the order of the jets in these blocks; None keeps the order.
        begin, end: range of the selected jets in this order.
    """

    blocks: NDArray[np.int64]
    seed: tuple[int, ...] | None
    begin: int
    end: int

    def order(self, jets: int) -> NDArray[np.int64]:
        """Positions of the selected jets among all jets in the blocks, of which there are ``jets``."""
        order = np.arange(jets) if self.seed is None else np.random.default_rng(self.seed).permutation(jets)
        return order[self.begin : self.end]


class JetSource(Protocol):
    """Interface through which the loader, training and evaluation access jets."""

    classes: tuple[str, ...]
    sizes: NDArray[np.int64]
    """Number of jets per block."""

    @property
    def label(self) -> Tensor:
        """Class of each jet, int64, shape [jets]."""

    @property
    def multiplicity(self) -> Tensor:
        """Number of particles per jet, before any cut, int64, shape [jets]."""

    @property
    def weight(self) -> Tensor | None:
        """Weights of the jets, shape [jets]; None if they have none."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index) -> JetBatch:
        """The jets at an index, slice, list of indices or mask, as a batch."""

    def gather(self, pool: Pool) -> JetBatch:
        """The jets of a pool."""


class JetDataset(Dataset[JetBatch]):
    """Jets in memory; indexing by an index, slice, list of indices or mask gives a batch.

    Args:
        jets: the jets, for example from :func:`iagraph.data.read_store`.
        max_particles: keep at most this many of each jet's hardest particles; None keeps all.
        masses: ``zero`` treats particles as massless; for both arguments, see :class:`iagraph.views.JetView`.

    Attributes:
        label: class of each jet, shape [jets].
        multiplicity: number of particles per jet, before any cut, shape [jets].
        weight: weights of the jets, shape [jets], if any.
        targets: what a training compares with instead of labels (``JetBatch.targets``), if set.
        classes: class names.
        sizes: number of jets per block: all ones.

    Raises:
        StoreError: the jets are invalid, see :meth:`iagraph.data.Jets.validate`.
    """

    def __init__(self, jets: Jets, max_particles: int | None = None, masses: Masses = "stored") -> None:
        jets.validate("jets")
        self.jets = apply_view(jets, JetView(max_particles, masses))
        self.multiplicity = torch.tensor(jets.counts)
        self.label = torch.tensor(jets.label)
        self.weight = None if jets.weight is None else torch.tensor(jets.weight)
        self.targets: Tensor | None = None
        self.classes = jets.classes
        self.sizes = np.ones(len(jets), np.int64)

    def __len__(self) -> int:
        return len(self.jets)

    def __getitem__(self, index: Index) -> JetBatch:
        return self._batch(_numbers(len(self), index))

    def gather(self, pool: Pool) -> JetBatch:
        """The jets of a pool."""
        return self._batch(pool.blocks[pool.order(len(pool.blocks))])

    def _batch(self, numbers: NDArray[np.int64]) -> JetBatch:
        batch = as_batch(self.jets.take(numbers))
        if self.targets is not None:
            batch.targets = self.targets[torch.from_numpy(numbers)]
        return batch


class StoredJets(Dataset[JetBatch]):
    """Jets read from their stores on access; indexed like :class:`JetDataset`.

    A block is a run of up to 1,024 neighbouring jets of one store. Single jets are slow to read: milliseconds each.

    Args:
        stores: stores with equal classes and columns.
        max_particles: keep at most this many of each jet's hardest particles; None keeps all.
        masses: ``zero`` treats particles as massless; for both arguments, see :class:`iagraph.views.JetView`.

    Attributes:
        label: class of each jet, shape [jets]; read on first access.
        multiplicity: number of particles per jet, before any cut, shape [jets]; likewise.
        weight: weights of the jets, shape [jets], if the stores read them; likewise.
        classes: class names.
        sizes: number of jets per block.

    Raises:
        StoreError: there are no stores, or they differ in classes, columns or presence of weights.
    """

    def __init__(self, stores: Sequence[JetStore], max_particles: int | None = None, masses: Masses = "stored") -> None:
        check_compatible(stores)
        self.stores, self.view = tuple(stores), JetView(max_particles, masses)
        self.classes = stores[0].info.classes
        self._first = np.cumsum([0, *map(len, stores)])
        begins = [np.arange(first, first + len(s), BLOCK) for first, s in zip(self._first, stores, strict=False)]
        ends = [np.minimum(begin + BLOCK, last) for begin, last in zip(begins, self._first[1:], strict=True)]
        self._begins, self._ends = np.concatenate(begins), np.concatenate(ends)
        self.sizes = self._ends - self._begins

    def __getstate__(self) -> dict[str, Any]:
        # Caches for up to 10^8 jets are not sent to workers, which do not need them.
        return {name: value for name, value in self.__dict__.items() if name not in ("label", "multiplicity", "weight")}

    @cached_property
    def label(self) -> Tensor:
        """Class of each jet, int64, shape [jets]."""
        return torch.from_numpy(np.concatenate([store.label() for store in self.stores]))

    @cached_property
    def multiplicity(self) -> Tensor:
        """Number of particles per jet, before any cut, int64, shape [jets]."""
        return torch.from_numpy(np.concatenate([store.counts() for store in self.stores]))

    @cached_property
    def weight(self) -> Tensor | None:
        """Weights of the jets, float32, shape [jets]; None if they have none."""
        weights = [weight for store in self.stores if (weight := store.weight()) is not None]
        return torch.from_numpy(np.concatenate(weights)) if weights else None

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: Index) -> JetBatch:
        numbers = _numbers(len(self), index)
        runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
        return as_batch(Jets.concatenate([part for run in runs for part in self._read(run)]))

    def gather(self, pool: Pool) -> JetBatch:
        """The jets of a pool."""
        begins, ends = self._begins[pool.blocks], self._ends[pool.blocks]
        parts = [part for begin, end in zip(begins, ends, strict=True) for part in self._read(np.arange(begin, end))]
        jets = Jets.concatenate(parts)
        return as_batch(jets.take(pool.order(len(jets))))

    def _read(self, run: NDArray[np.int64]) -> list[Jets]:
        """The jets of a run of consecutive numbers, store by store."""
        parts: list[Jets] = []
        begin, end = (int(run[0]), int(run[-1]) + 1) if run.size else (0, 0)
        for first, store in zip(self._first.tolist(), self.stores, strict=False):
            low, high = max(begin - first, 0), min(end - first, len(store))
            if low < high or (not run.size and not parts):
                parts.append(store.read(low, max(low, high)))
        return [apply_view(part, self.view) for part in parts]


def check_compatible(stores: Sequence[JetStore]) -> None:
    """Raise StoreError if there are no stores, or they differ in classes, columns or presence of weights."""
    if not stores:
        raise StoreError("no stores; give at least one")
    first = stores[0]
    for store in stores[1:]:
        if (store.info.classes, store.columns) != (first.info.classes, first.columns):
            raise StoreError(
                f"{store.path}: classes {store.info.classes} and columns {store.columns} differ from those of "
                f"{first.path}, {first.info.classes} and {first.columns}; convert them in the same way"
            )
        if store.weights != first.weights:
            one, other = (store, first) if store.weights else (first, store)
            raise StoreError(f"{one.path} has weights, {other.path} has none; give all files weights, or none")


def keep_hardest(jets: Jets, max_particles: int) -> Jets:
    """The jets with at most their ``max_particles`` hardest particles, in descending order of pT.

    Raises:
        ValueError: ``max_particles`` is below 1.
    """
    return apply_view(jets, JetView(max_particles))


def apply_view(jets: Jets, view: JetView) -> Jets:
    """Apply a view to jets, as ``view`` itself does to a batch; the particles it keeps retain all columns."""
    particles, offsets = jets.particles, jets.offsets
    if view.max_particles is not None:
        kept, ptr = hardest(torch.from_numpy(particles["pt"]), torch.from_numpy(offsets), view.max_particles)
        particles, offsets = {name: column[kept.numpy()] for name, column in particles.items()}, ptr.numpy()
    if view.masses == "zero":
        particles = particles | {"mass": np.zeros_like(particles["mass"])}
    return replace(jets, particles=particles, offsets=offsets)


def as_batch(jets: Jets) -> JetBatch:
    """Jets as a batch, the input of models; memory is shared where types agree."""
    columns = {name: torch.from_numpy(column) for name, column in jets.particles.items()}
    momenta = Momenta(*(columns[name] for name in Momenta._fields))
    pid = columns["pid"].long() if "pid" in columns else None
    impact = Impact(*(columns[name] for name in Impact._fields)) if columns.keys() >= set(Impact._fields) else None
    weight = None if jets.weight is None else torch.from_numpy(jets.weight)
    return JetBatch(momenta, torch.from_numpy(jets.offsets), pid, torch.from_numpy(jets.label), impact, weight)


def evenly_spaced(jets: int, number: int) -> list[int]:
    """At most ``number`` evenly spaced indices among ``jets`` jets, as files may be sorted by class."""
    return np.linspace(0, jets - 1, min(number, jets)).astype(int).tolist()


def _numbers(jets: int, index: Index) -> NDArray[np.int64]:
    """The jet numbers that an index selects."""
    return torch.arange(jets)[index].view(-1).numpy()
