"""The Lightning data module: training, validation and test jets."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import combinations, combinations_with_replacement, product
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningDataModule
from numpy.typing import NDArray

from iagraph.data import (
    JetDataset,
    JetLoader,
    Jets,
    JetSource,
    JetStore,
    StoredJets,
    StoreError,
    StoreInfo,
    resolve,
    store_info,
)
from iagraph.data.sources import check_compatible, evenly_spaced
from iagraph.jets import JetBatch
from iagraph.kinematics import Impact, Momenta
from iagraph.metrics import WORKING_POINTS
from iagraph.train.config import DataConfig
from iagraph.views import mass_mismatch, massive_fraction

ROLES = ("train", "val", "test")
CHOICE_SEED = 1
"""Seed of the selection of ``max_jets`` jets."""

MASS_JETS = 64
"""Number of jets examined for massive particles."""

MAX_DUPLICATES = 0.01
"""Largest accepted fraction of duplicate jets: public data sets contain a few."""


class JetDataModule(LightningDataModule):
    """Loaders of training, validation and test jets.

    Args:
        config: files, features and batch size.
        seed: seed for the order of the training jets. The selection of ``max_jets`` jets does not depend on it, so that
            runs with different seeds train on the same jets.
        jets_per_epoch: training jets per epoch; None means all.

    Attributes:
        datasets: jets of each role, in memory or streamed.
        classes: class names; if more than two, the first is the background.
        fingerprints: fingerprints of the files of each role.
        trained_on: digests of the training jets and of the jets added by :meth:`add_seen`, see
            :meth:`iagraph.data.Jets.digests`; streamed jets have none.
        parts: file fingerprints and positions of the jets that the training jets are taken from (all of them, even with
            ``max_jets``), and of those added by :meth:`add_seen`.
        massive_particles: fraction of massive particles among those that the network sees, from a few training jets.

    Raises:
        StoreError: files are invalid or do not fit the configuration, see :func:`open_role` and :func:`check_jets`;
            classes differ between roles; or more than :data:`MAX_DUPLICATES` of the jets are duplicates, within or
            between roles (for streamed jets: any overlap of positions in files).
    """

    def __init__(self, config: DataConfig, seed: int, jets_per_epoch: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        stores = {role: open_role(self._files(role), role, config) for role in ROLES}
        self.fingerprints = {role: fingerprints(self._files(role), stores[role]) for role in ROLES}
        roles = dict(zip(ROLES, ROLES, strict=True))
        digests = dict.fromkeys(ROLES, np.zeros(0, np.uint64))
        self.datasets: dict[str, JetSource]
        if config.in_memory:
            jets = {role: read_all(stores[role]) for role in ROLES}
            if config.max_jets is not None and config.max_jets < len(jets["train"]):
                chosen = np.random.default_rng(CHOICE_SEED).choice(len(jets["train"]), config.max_jets, replace=False)
                jets["train"] = jets["train"].take(chosen)
                roles["train"] = f"train, data.max_jets={config.max_jets}"
            digests = {role: jets[role].digests() for role in ROLES}
            self.datasets = {role: JetDataset(jets[role], config.max_particles, config.masses) for role in ROLES}
        else:
            _check_distinct_parts(stores)
            self.datasets = {role: StoredJets(stores[role], config.max_particles, config.masses) for role in ROLES}
        self.jets_per_epoch = jets_per_epoch or len(self.datasets["train"])
        self.classes = self.datasets["train"].classes
        for role, name in roles.items():
            check_jets(self.datasets[role], config, self.classes, f"{', '.join(self._files(role))} ({name})")
        self.massive_particles = massive_fraction(_sampled(self.datasets["train"]))
        for role in ROLES[1:]:
            compare_masses(self.massive_particles, self.datasets[role], f"{', '.join(self._files(role))} ({role})")
        _check_distinct(digests)
        self._digests = digests
        self._parts = {role: [part_of(store) for store in stores[role]] for role in ROLES}
        self.trained_on, self.parts = digests["train"], self._parts["train"]

    def add_seen(self, digests: NDArray[np.uint64], parts: Sequence[Part]) -> None:
        """Add the jets that initial weights or a teacher were trained on to :attr:`trained_on` and :attr:`parts`.

        Raises:
            StoreError: their parts overlap with those of the validation or test jets, or more than
                :data:`MAX_DUPLICATES` of the validation or test jets are among them.
        """
        for role in ROLES[1:]:
            places = any(overlap(mine, part) for mine in self._parts[role] for part in parts)
            if places or known_fraction(self._digests[role], digests) > MAX_DUPLICATES:
                raise StoreError(
                    f"data.{role}: the initial weights or the teacher were trained on some of these jets; use others"
                )
        self.trained_on = np.union1d(self.trained_on, digests)
        self.parts = list(dict.fromkeys([*self.parts, *parts]))

    @property
    def signal(self) -> int | None:
        """Index of the signal class if there are two classes; None for more."""
        return None if self.config.signal is None else self.classes.index(self.config.signal)

    def loss_weights(self, of_classes: Mapping[str, float]) -> NDArray[np.float64] | None:
        r"""Factor of the loss per class, in addition to jet weights; None if there are neither factors nor jet weights.

        .. math:: \frac{c_k}{\frac1N \sum_i w_i c_{k_i}}

        for class :math:`k` with configured factor :math:`c_k` and jet weights :math:`w_i`. The mean of factor times jet
        weight over the training jets is one, so that learning rate and gradient clipping keep their meaning.

        Args:
            of_classes: configured factors by class name; 1 for classes not listed.

        Raises:
            StoreError: a class does not exist.
        """
        if unknown := [name for name in of_classes if name not in self.classes]:
            names = ", ".join(self.classes)
            raise StoreError(f"train.class_weights: no class {', '.join(unknown)}; available: {names}")
        jets = self.datasets["train"]
        if not of_classes and jets.weight is None:
            return None
        factors = np.array([of_classes.get(name, 1.0) for name in self.classes])
        weights = None if jets.weight is None else jets.weight.double().numpy()
        sums = np.bincount(jets.label.numpy(), weights, len(self.classes))
        return factors * len(jets) / float(sums @ factors)

    def train_dataloader(self) -> JetLoader:
        """Training jets, in a new order each pass, divided among processes."""
        loader = self._sharded("train", shuffle=True, jets_per_epoch=self.jets_per_epoch)
        if self.trainer is not None:
            # After resuming, not 0; Lightning counts an epoch as completed only a little later.
            loader.set_epoch(self.trainer.fit_loop.epoch_progress.current.processed)  # type: ignore[attr-defined]
        return loader

    def val_dataloader(self) -> JetLoader:
        """Validation jets, divided among processes."""
        return self._sharded("val")

    def test_dataloader(self) -> JetLoader:
        """All test jets."""
        return make_loader(self.datasets["test"], self.config)

    def transfer_batch_to_device(self, batch: JetBatch, device: torch.device, dataloader_idx: int) -> JetBatch:
        """The jets on the device; copies to a CUDA GPU run in the background, from page-locked memory."""
        if device.type != "cuda":
            return batch.to(device)
        return batch.pin_memory().to(device, non_blocking=True)

    def _sharded(self, role: str, **more: Any) -> JetLoader:
        if self.trainer is not None:
            more["shard"] = (self.trainer.global_rank, self.trainer.world_size)
            more["any_process"] = partial(self.trainer.strategy.reduce_boolean_decision, all=False)
        return make_loader(self.datasets[role], self.config, seed=self.seed, **more)

    def _files(self, role: str) -> list[str]:
        return getattr(self.config, role)


def make_loader(jets: JetSource, config: DataConfig, **more: Any) -> JetLoader:
    """A loader with a configuration's settings; ``more`` are further arguments of :class:`~iagraph.data.JetLoader`."""
    return JetLoader(jets, config.batch_size, workers=config.workers, max_pairs=config.max_pairs, **more)


def open_role(files: Sequence[str], role: str, config: DataConfig, species: bool = False) -> list[JetStore]:
    """Open the files of a role, with the classes and the columns that the configuration needs.

    From a file with splits, the split with the name of the role is used; a file without splits is used whole.

    Args:
        files: stores, or names of samples.
        role: train, val or test.
        config: the node features, the classes, and whether jet weights are used.
        species: whether to read particle species even if the node features do not need them, provided that all files
            have them.

    Raises:
        StoreError: a file is missing or damaged, has splits but none for this role, lacks a class, weights, or particle
            species or impact parameters that the node features need, or has other classes than the first file.
    """
    stores, paths = [], [resolve(name) for name in files]
    infos = [store_info(path) for path in paths]
    species = species and all("pid" in info.columns for info in infos)
    for name, path, info in zip(files, paths, infos, strict=True):
        columns = _columns(config.node_features, info, name)
        columns += ["pid"] if species and "pid" not in columns else []
        stores.append(JetStore(path, role if info.splits else None, columns, config.classes, config.weights))
    check_compatible(stores)
    return stores


def read_all(stores: Sequence[JetStore]) -> Jets:
    """Read all jets of stores into memory."""
    jets = []
    for store in stores:
        with closing(store):
            jets.append(store.read(0, len(store)))
    return Jets.concatenate(jets)


def _columns(features: str, info: StoreInfo, where: str) -> list[str]:
    columns = list(Momenta._fields)
    if features in ("kinpid", "full"):
        if "pid" not in info.columns:
            raise StoreError(f"{where}: no particle species (pid), which {features} needs; set data.node_features=kin")
        columns.append("pid")
    if features == "full":
        if lacking := [name for name in Impact._fields if name not in info.columns]:
            raise StoreError(
                f"{where}: no impact parameters ({', '.join(lacking)}), which full needs; set data.node_features=kinpid"
            )
        columns += Impact._fields
    return columns


def check_jets(jets: JetSource, config: DataConfig, classes: Sequence[str], where: str) -> None:
    """Check that jets fit a model's task and ``classes``; ``where`` names the jets in messages.

    Raises:
        StoreError: there is only one class, or the classes differ from those of training; the signal or the signal
            efficiencies do not fit the classes; or a class has no jets.
    """
    if jets.classes != tuple(classes):
        raise StoreError(f"{where}: classes {jets.classes} differ from those of the training jets, {tuple(classes)}")
    names = ", ".join(classes)
    if len(classes) < 2:
        raise StoreError(f"{where}: one class only ({names}); a tagger needs two or more: add jets of others")
    _check_no_class_is_empty(jets, where)
    if len(classes) == 2:
        _check_two_classes(config, classes, where)
    elif config.signal is not None:
        raise StoreError(
            f"{where}: {len(classes)} classes ({names}) have no single signal, found data.signal={config.signal}; set "
            f"data.signal=null: {classes[0]}, the first, is the background, every other one a signal; or choose two "
            "with data.classes"
        )
    signals = classes[1:]
    if unknown := [name for name in config.signal_efficiency if name not in signals]:
        raise StoreError(
            f"{where}: no signal class {', '.join(unknown)} (data.signal_efficiency); available: {', '.join(signals)}"
        )


def _check_no_class_is_empty(jets: JetSource, where: str) -> None:
    counts = torch.bincount(jets.label, jets.weight, len(jets.classes))  # jets of zero weight do not count
    numbers = dict(zip(jets.classes, counts.tolist(), strict=True))
    empty, present = ([name for name, n in numbers.items() if (n == 0) == wanted] for wanted in (True, False))
    if empty:
        found = f"class '{empty[0]}'" if len(empty) == 1 else f"classes {', '.join(empty)}"
        more = "raise data.max_jets" if "data.max_jets" in where else "add some"
        some = f", or distinguish only the others: data.classes=[{','.join(present)}]" if len(present) > 1 else ""
        raise StoreError(f"{where}: none of the {len(jets)} jets is of the {found}; {more}{some}")


def _check_two_classes(config: DataConfig, classes: Sequence[str], where: str) -> None:
    if config.signal is None:
        raise StoreError(f"{where}: two classes ({', '.join(classes)}); name the signal: data.signal={classes[1]}")
    if config.signal not in classes:
        raise StoreError(f"{where}: no class '{config.signal}' (data.signal); available: {', '.join(classes)}")
    if config.signal_efficiency:
        raise StoreError(
            f"{where}: two classes ({', '.join(classes)}) are compared at signal efficiencies "
            f"{' and '.join(map(str, WORKING_POINTS))}; "
            "remove data.signal_efficiency, which is for more"
        )


def compare_masses(trained: float | None, jets: JetSource, where: str) -> None:
    """Warn if a model trained on massive particles is given massless ones, or vice versa.

    Args:
        trained: fraction of massive particles in training; None if unknown.
        jets: the jets that it is given.
        where: name of these jets in the message.
    """
    if mismatch := mass_mismatch(trained, _sampled(jets)):
        warnings.warn(f"{where}: {mismatch}", stacklevel=2)


def _sampled(jets: JetSource) -> JetBatch:
    """A few evenly spaced jets."""
    return jets[evenly_spaced(len(jets), MASS_JETS)]


def fingerprints(files: Sequence[str], stores: Sequence[JetStore]) -> dict[str, str]:
    """Fingerprints by file name."""
    return {name: store.info.fingerprint for name, store in zip(files, stores, strict=True)}


def known_fraction(digests: NDArray[np.uint64], known: NDArray[np.uint64]) -> float:
    """Fraction of the jets, by digest, that are among the known ones."""
    return float(np.isin(digests, known).mean()) if len(digests) else 0.0


def _check_distinct(digests: dict[str, NDArray[np.uint64]]) -> None:
    """Check for duplicate jets: between roles they reward memorisation, within a role they make errors too small."""
    for role, mine in digests.items():
        repeated = 1 - len(np.unique(mine)) / len(mine) if len(mine) else 0
        if repeated > MAX_DUPLICATES:
            raise StoreError(f"data.{role}: {repeated:.0%} of the jets are duplicates; is a file listed twice?")
    for one, other in combinations(digests, 2):
        shared = max(known_fraction(digests[one], digests[other]), known_fraction(digests[other], digests[one]))
        if shared > MAX_DUPLICATES:
            raise StoreError(
                f"data.{one} and data.{other} have {shared:.0%} of their jets in common; use a file that records "
                "splits, or files with different jets (generate them with different seeds)"
            )


class Part(NamedTuple):
    """The jets ``begin:end`` of any file with this fingerprint."""

    fingerprint: str
    begin: int
    end: int


def part_of(store: JetStore) -> Part:
    """Position of a store's jets, independent of the file name."""
    return Part(store.info.fingerprint, store.begin, store.end)


def overlap(one: Part, other: Part) -> bool:
    """Whether two parts have jets in common."""
    return one.fingerprint == other.fingerprint and one.begin < other.end and other.begin < one.end


def _check_distinct_parts(stores: dict[str, list[JetStore]]) -> None:
    """Check streamed jets for duplicates, only by their positions in files."""
    for (role, mine), (other_role, others) in combinations_with_replacement(stores.items(), 2):
        for store, other in product(mine, others):
            if store is not other and overlap(part_of(store), part_of(other)):
                found = f"shares jets with {store.path} ({role})"
                raise StoreError(f"{other.path} ({other_role}): {found}; use files with different jets")
