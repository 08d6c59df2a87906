"""The Lightning data module: which jets play which role."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from iagraph.data import JetDataset, Jets, StoreError, jet_loader, read_store, resolve, store_info
from iagraph.graphs import JetBatch
from iagraph.train.config import DataConfig

ROLES = ("train", "val", "test")
TOLERATED = 0.01
"""Share of jets that may come twice: public data sets hold a few."""


class JetDataModule(LightningDataModule):
    """Loaders of training, validation and test jets.

    Args:
        config: files and batch size.
        seed: fixes the order of the training jets, and their choice if there is a ``max_jets``.

    Attributes:
        datasets: the jets of each role.
        classes: names of the classes.
        fingerprints: for each role, the fingerprint of each of its files.
        trained_on: digests of the training jets, see :meth:`iagraph.data.Jets.digests`.

    Raises:
        StoreError: files are wrong or do not fit, see :func:`read_role` and :func:`check_jets`; classes differ between
            roles; or jets come twice, in one role or in two.
    """

    def __init__(self, config: DataConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        jets = {role: read_role(self._files(role), role) for role in ROLES}
        self.classes = jets["train"].classes
        for role in ROLES:
            check_jets(jets[role], config, self.classes, f"{', '.join(self._files(role))} ({role})")
        if config.max_jets is not None and config.max_jets < len(jets["train"]):
            chosen = np.random.default_rng(seed).choice(len(jets["train"]), config.max_jets, replace=False)
            jets["train"] = jets["train"].take(chosen)
        digests = {role: jets[role].digests() for role in ROLES}
        _check_distinct(digests)
        self.trained_on = digests["train"]
        self.datasets = {role: JetDataset(jets[role], config.max_particles) for role in ROLES}
        self.fingerprints = {role: fingerprints(self._files(role)) for role in ROLES}

    @property
    def signal(self) -> int:
        """Index of the signal class."""
        return self.classes.index(self.config.signal)

    def train_dataloader(self) -> DataLoader[JetBatch]:
        """Training jets, in a new order each epoch."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[JetBatch]:
        """Validation jets."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[JetBatch]:
        """Test jets."""
        return self._loader("test")

    def _loader(self, role: str, shuffle: bool = False) -> DataLoader[JetBatch]:
        config = self.config
        return jet_loader(
            self.datasets[role], config.batch_size, shuffle=shuffle, seed=self.seed, workers=config.workers
        )

    def _files(self, role: str) -> list[str]:
        return getattr(self.config, role)


def read_role(files: Sequence[str], role: str) -> Jets:
    """The jets that files hold for a role.

    A file that records splits gives the one named as the role; a file that records none is used whole.

    Args:
        files: stores, or names of samples.
        role: train, val or test.

    Raises:
        StoreError: a file is missing or damaged, or has splits but none for this role.
    """
    paths = [resolve(name) for name in files]
    return Jets.concatenate([read_store(path, role if store_info(path).splits else None) for path in paths])


def check_jets(jets: Jets, config: DataConfig, classes: Sequence[str], where: str) -> None:
    """Whether jets fit what a model was, or will be, trained for.

    Raises:
        StoreError: not two classes, other ones than those of training, or none called as the signal; no jet of a class;
            or no particle species where the node features need them.
    """
    if jets.classes != tuple(classes):
        raise StoreError(f"{where}: classes {jets.classes} differ from those of the training jets, {tuple(classes)}")
    if config.signal not in classes:
        raise StoreError(f"{where}: no class '{config.signal}' (data.signal); there are {', '.join(classes)}")
    if len(classes) != 2:
        raise StoreError(f"{where}: {len(classes)} classes ({', '.join(classes)}); a tagger separates two: merge some")
    for label, name in enumerate(classes):
        if not (jets.label == label).any():
            raise StoreError(f"{where}: none of the {len(jets)} jets is of the class '{name}'; add some")
    if config.node_features == "kinpid" and "pid" not in jets.particles:
        raise StoreError(f"{where}: no particle species (pid), which kinpid needs; set data.node_features=kin")


def fingerprints(files: Sequence[str]) -> dict[str, str]:
    """The fingerprint of each file."""
    return {name: store_info(resolve(name)).fingerprint for name in files}


def share_known(digests: NDArray[np.uint64], known: NDArray[np.uint64]) -> float:
    """The share of jets that are also among the known ones."""
    return float(np.isin(digests, known).mean()) if len(digests) else 0.0


def _check_distinct(digests: dict[str, NDArray[np.uint64]]) -> None:
    """Training jets among those of the test would make it one of memory; repeated ones would make its errors small."""
    for role, mine in digests.items():
        repeated = 1 - len(np.unique(mine)) / max(len(mine), 1)
        if repeated > TOLERATED:
            raise StoreError(f"data.{role}: {repeated:.0%} of the jets come more than once; is a file listed twice?")
    for one, other in combinations(digests, 2):
        shared = max(share_known(digests[one], digests[other]), share_known(digests[other], digests[one]))
        if shared > TOLERATED:
            raise StoreError(
                f"data.{one} and data.{other} have {shared:.0%} of their jets in common; use a file that records "
                "splits, or files of different jets (generated ones need different seeds)"
            )
