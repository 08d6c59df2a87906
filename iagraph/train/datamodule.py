"""The Lightning data module: which jets play which role."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from iagraph.data import JetDataset, Jets, StoreError, jet_loader, read_store, resolve, store_info
from iagraph.graphs import JetBatch
from iagraph.train.config import DataConfig

ROLES = ("train", "val", "test")


class JetDataModule(LightningDataModule):
    """Loaders of training, validation and test jets.

    Args:
        config: files and batch size.
        seed: fixes the order of the training jets, and their choice if there is a ``max_jets``.

    Attributes:
        datasets: the jets of each role.
        classes: names of the classes.
        fingerprints: for each role, the fingerprint of each of its files.

    Raises:
        StoreError: files are wrong or do not fit, see :func:`read_role` and :func:`check_jets`; classes differ between
            roles; or one file without splits serves two roles.
    """

    def __init__(self, config: DataConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        _check_no_file_twice(config)
        jets = {role: read_role(self._files(role), role) for role in ROLES}
        self.classes = jets["train"].classes
        for role in ROLES:
            check_jets(jets[role], config, self.classes, f"{', '.join(self._files(role))} ({role})")
        if config.max_jets is not None and config.max_jets < len(jets["train"]):
            chosen = np.random.default_rng(seed).choice(len(jets["train"]), config.max_jets, replace=False)
            jets["train"] = jets["train"].take(chosen)
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


def _check_no_file_twice(config: DataConfig) -> None:
    """A file without splits would be used whole in both roles: the test would be one of memory."""
    seen: dict[str, str] = {}
    for role in ROLES:
        for name in getattr(config, role):
            info = store_info(resolve(name))
            if info.splits:
                continue
            if info.fingerprint in seen:
                first = seen[info.fingerprint]
                raise StoreError(f"{name}: its jets serve data.{first} and data.{role}, but no splits part them")
            seen[info.fingerprint] = role
