"""The Lightning data module: which jets play which role."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from iagraph.data import JetDataset, Jets, StoreError, jet_loader, keep_hardest, read_store, resolve, store_info
from iagraph.graphs import JetBatch
from iagraph.train.config import DataConfig

ROLES = ("train", "val", "test")


def read_role(files: Sequence[str], role: str, max_particles: int | None = None) -> Jets:
    """The jets that files hold for a role.

    A file that records splits gives the one named as the role; a file that records none is used whole.

    Args:
        files: stores, or names of samples.
        role: train, val or test.
        max_particles: keep so many of the hardest particles of each jet; None keeps all.

    Raises:
        StoreError: a file is missing or damaged, has splits but none for this role, or there are no jets.
    """
    parts = []
    for name in files:
        path = resolve(name)
        parts.append(read_store(path, role if store_info(path).splits else None))
    jets = Jets.concatenate(parts)
    if len(jets) == 0:
        raise StoreError(f"{', '.join(files)}: no jets for the role '{role}'")
    return jets if max_particles is None else keep_hardest(jets, max_particles)


class JetDataModule(LightningDataModule):
    """Loaders of training, validation and test jets.

    Args:
        config: files and batch size.
        seed: fixes the order of the training jets.

    Raises:
        StoreError: files are wrong; classes differ between roles; the signal is not among them; the node features need
            species that the jets do not have; or one file without splits serves two roles.
    """

    def __init__(self, config: DataConfig, seed: int) -> None:
        super().__init__()
        self.config = config
        self.seed = seed
        _check_no_file_twice(config)
        jets = {role: read_role(self._files(role), role, config.max_particles) for role in ROLES}
        self.classes = jets["train"].classes
        self.fingerprints = {
            name: store_info(resolve(name)).fingerprint for role in ROLES for name in self._files(role)
        }
        for role in ROLES:
            check_jets(jets[role], config, self.classes, ", ".join(self._files(role)))
        if config.max_jets is not None:
            jets["train"] = jets["train"].take(range(min(config.max_jets, len(jets["train"]))))
        self.jets = jets
        self.datasets = {role: JetDataset(jets[role]) for role in ROLES}

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


def check_jets(jets: Jets, config: DataConfig, classes: Sequence[str], where: str) -> None:
    """Whether jets fit what a model was, or will be, trained for.

    Raises:
        StoreError: other classes, no signal class, or no particle species where the node features need them.
    """
    if jets.classes != tuple(classes):
        raise StoreError(f"{where}: classes {jets.classes} differ from those of the training jets, {tuple(classes)}")
    if config.signal not in classes:
        raise StoreError(f"{where}: no class '{config.signal}' (data.signal); there are {', '.join(classes)}")
    if config.node_features == "kinpid" and "pid" not in jets.particles:
        raise StoreError(f"{where}: no particle species (pid), which kinpid needs; set data.node_features=kin")


def _check_no_file_twice(config: DataConfig) -> None:
    """A file without splits would be used whole in both roles: the test would be one of memory."""
    seen: dict[str, str] = {}
    for role in ROLES:
        for name in getattr(config, role):
            path = resolve(name)
            if store_info(path).splits:
                continue
            real = str(path.resolve())
            if real in seen:
                raise StoreError(f"{name}: serves data.{seen[real]} and data.{role}, but records no splits to part it")
            seen[real] = role
