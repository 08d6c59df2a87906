"""Published jet data sets for PyTorch Geometric: downloaded and converted to a jet store once.

``root/raw`` holds the published files, ``root/processed`` the stores; once these exist, the raw files may be deleted.
An item is the ``Data`` of one jet (see :meth:`iagraph.jets.JetBatch.to_data_list`), read on access, for inspection and
for PyTorch Geometric's tools and transforms. To train, use whole batches: ``JetLoader(dataset.jets(), 512)``, or name
``dataset.stores`` in a configuration.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch_geometric.data import Data, Dataset

from iagraph.data import records
from iagraph.data.convert import Sources, write_all
from iagraph.data.download import fetch, verify
from iagraph.data.jets import StoreError
from iagraph.data.readers import open_jets
from iagraph.data.records import ZenodoFile
from iagraph.data.sources import StoredJets
from iagraph.data.store import JetStore

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
QUARK_GLUON_FILES = {"train": 16, "val": 2, "test": 2}


class PublishedJets(Dataset):
    """Base class of the data sets in this module.

    Attributes:
        split: train, val or test.
        classes: class names in label order.
    """

    card_name: ClassVar[str]
    whole_stores: ClassVar[bool] = False  # whether each store holds one split rather than all of them

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        transform: Callable[[Data], Any] | None = None,
        force_reload: bool = False,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split should be one of {', '.join(SPLITS)}, found {split!r}")
        self.split = split
        super().__init__(str(root), transform, force_reload=force_reload)
        self._jets = self.jets()
        self.classes = self._jets.classes

    def published(self) -> tuple[ZenodoFile, ...]:
        """The published files of this data set."""
        raise NotImplementedError

    @property
    def raw_file_names(self) -> list[str]:
        """File names of the published files."""
        return [file.name for file in self.published()]

    @property
    def stores(self) -> list[Path]:
        """The jet stores, for :class:`iagraph.data.JetStore` or a configuration."""
        return [Path(path) for path in self.processed_paths]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def jets(self, columns: Iterable[str] | None = None, max_particles: int | None = None) -> StoredJets:
        """All jets of this split, even if the data set was sliced, for :class:`iagraph.data.JetLoader`.

        Args:
            columns: columns to read, as in :class:`iagraph.data.JetStore`; None reads all.
            max_particles: keep at most this many of each jet's hardest particles; None keeps all.
        """
        wanted = None if columns is None else tuple(columns)
        part = None if self.whole_stores else self.split
        return StoredJets([JetStore(path, part, wanted) for path in self.stores], max_particles)

    def card(self) -> str:
        """The data card in Markdown: content, units, classes, sizes, licence, citation, caveats."""
        return (files("iagraph.data") / "cards" / f"{self.card_name}.md").read_text(encoding="utf-8")

    def len(self) -> int:
        """The number of jets."""
        return len(self._jets)

    def get(self, idx: int) -> Data:
        """The ``Data`` of one jet."""
        return self._jets[idx].to_data_list()[0]

    def download(self) -> None:
        """Download missing files.

        Raises:
            DownloadError: a file cannot be downloaded, or differs from the published one.
        """
        for file in self.published():
            fetch(file, self.raw_dir)

    def checked(self, file: ZenodoFile) -> Path:
        """Verify the checksum of a published file, as it may have been put in place by hand, and return its path."""
        path = Path(self.raw_dir) / file.name
        verify(path, file.checksum)
        return path

    def _download(self) -> None:
        # PyTorch Geometric would require the raw files even after conversion.
        if self.force_reload or not self._is_processed():
            self.download()

    def _process(self) -> None:
        # PyTorch Geometric would also save files about pre-transforms, which these data sets do not have.
        if self.force_reload or not self._is_processed():
            Path(self.processed_dir).mkdir(parents=True, exist_ok=True)
            self.process()

    def _is_processed(self) -> bool:
        return all(path.is_file() for path in self.stores)  # a store is complete or absent


class TopTagging(PublishedJets):
    """The top quark tagging reference data: 1.2M / 0.4M / 0.4M hadronic-top and QCD jets.

    Zenodo 2603256 (Kasieczka, Plehn, Thompson, Russel, 2019), CC BY 4.0; 1.7 GB to download. ``card()`` says more.

    Args:
        root: folder of the data.
        split: which published split.
        transform: applied to the ``Data`` of a jet.
        force_reload: convert the published files again.

    Raises:
        DownloadError: a file cannot be downloaded, or differs from the published one.
        StoreError: a file is damaged, or the store cannot be written.
    """

    card_name = "top_tagging"

    def published(self) -> tuple[ZenodoFile, ...]:
        """One file per split."""
        return tuple(file for part in SPLITS for file in records.TOP[part])

    @property
    def processed_file_names(self) -> list[str]:
        """One store with all splits."""
        return ["top_tagging.h5"]

    def process(self) -> None:
        """Convert the three files to one store."""
        files = zip(SPLITS, self.published(), strict=True)
        write_all(((split, open_jets(self.checked(file))) for split, file in files), self.stores[0])


class QuarkGluon(PublishedJets):
    """EnergyFlow's quark and gluon jets: 1.6M / 0.2M / 0.2M, split in the order of the published files.

    Zenodo 3164691 (Pythia; Komiske, Metodiev, Thaler, 2019) and 3066475 (Herwig), CC BY 4.0. ``card()`` says more.

    Args:
        root: folder of the data.
        split: train is the first 16 of the 20 files, val the next two, test the last two.
        transform: applied to the ``Data`` of a jet.
        force_reload: convert the published files again.
        generator: event generator, pythia or herwig.
        heavy_flavour: use the set whose quark jets include c and b quarks.

    Raises:
        DownloadError: a file cannot be downloaded, or differs from the published one.
        StoreError: a file is damaged, or the store cannot be written.
    """

    card_name = "quark_gluon"

    def __init__(
        self,
        root: str | Path,
        split: Split = "train",
        transform: Callable[[Data], Any] | None = None,
        force_reload: bool = False,
        *,
        generator: Literal["pythia", "herwig"] = "pythia",
        heavy_flavour: bool = False,
    ) -> None:
        if generator not in ("pythia", "herwig"):
            raise ValueError(f"generator should be pythia or herwig, found {generator!r}")
        self.name = f"{generator}_bc" if heavy_flavour else generator
        super().__init__(root, split, transform, force_reload)

    def published(self) -> tuple[ZenodoFile, ...]:
        """Twenty files of 100,000 jets."""
        return records.QUARK_GLUON[self.name]

    @property
    def processed_file_names(self) -> list[str]:
        """One store with all splits."""
        return [f"quark_gluon_{self.name}.h5"]

    def process(self) -> None:
        """Convert the files to one store."""
        parts = [split for split, number in QUARK_GLUON_FILES.items() for _ in range(number)]
        files = zip(parts, self.published(), strict=True)
        write_all(((split, open_jets(self.checked(file))) for split, file in files), self.stores[0])


class JetClass(PublishedJets):
    """JetClass: 100M / 5M / 20M jets of ten classes, with impact parameters.

    Zenodo 6619768 (Qu, Li, Qian, 2022), CC BY 4.0; each split comes in archives (ten for train), and only those of the
    requested split are downloaded. ``card()`` says more.

    Args:
        root: folder of the data.
        split: which published split.
        transform: applied to the ``Data`` of a jet.
        force_reload: convert the published files again.

    Raises:
        DownloadError: a file cannot be downloaded, or differs from the published one.
        StoreError: a file is damaged, or a store cannot be written.
    """

    card_name = "jetclass"
    whole_stores = True

    def published(self) -> tuple[ZenodoFile, ...]:
        """The archives of this split."""
        return records.JETCLASS[{"train": "train_100M", "val": "val_5M", "test": "test_20M"}[self.split]]

    @property
    def processed_file_names(self) -> list[str]:
        """One store per archive."""
        return [f"{Path(file.name).stem}.h5" for file in self.published()]

    def process(self) -> None:
        """Download and convert, one by one, archives that have no store yet (all with ``force_reload``).

        An archive may be deleted once it has been converted.
        """
        for file, store in zip(self.published(), self.stores, strict=True):
            if self.force_reload or not store.is_file():
                fetch(file, self.raw_dir)
                with tempfile.TemporaryDirectory(dir=store.parent) as folder:
                    write_all(_root_files(self.checked(file), Path(folder)), store)

    def _download(self) -> None:
        """Do nothing: ``process`` downloads archives one by one, as all together are large."""


def _root_files(archive: Path, folder: Path) -> Sources:
    """Readers of the ROOT files in an archive, each unpacked just before use and removed after it."""
    try:
        with tarfile.open(archive, "r|*") as members:
            for member in members:
                content = members.extractfile(member) if member.name.endswith(".root") else None
                if content is None:
                    continue
                unpacked = folder / Path(member.name).name
                with content, unpacked.open("wb") as file:
                    shutil.copyfileobj(content, file)
                yield None, open_jets(unpacked)
                unpacked.unlink()
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise StoreError(f"{archive}: incomplete or damaged ({error}); delete it and download it again") from error
    except OSError as error:
        raise StoreError(
            f"{archive}: cannot unpack into {folder} ({error}); check permissions and free space"
        ) from error
