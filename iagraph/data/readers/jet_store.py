"""Reader of jet stores, so that they can be converted and merged like other files."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from iagraph.data.jets import Jets
from iagraph.data.readers.base import Reader
from iagraph.data.store import FORMAT, JetStore


class JetStoreReader(Reader):
    """The jets of a store, or of one of its splits.

    Args:
        path: the file.
        split: name of a split; None uses all jets.

    Raises:
        StoreError: the store is damaged, or lacks the split.
    """

    format = FORMAT

    def __init__(self, path: Path, split: str | None = None) -> None:
        self._store = JetStore(path, split)
        self.path, self.classes, self.jets = path, self._store.info.classes, len(self._store)
        self.splits, self.provenance = tuple(self._store.info.splits), self._store.info.provenance
        self.fingerprint = self._store.info.fingerprint

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        with closing(self._store):
            yield from self._store.parts(jets_per_part)
