"""Reader of our own jet stores, so that they can be converted and merged as other files are."""

from collections.abc import Iterator
from pathlib import Path

from iagraph.data.jets import Jets
from iagraph.data.readers.base import Reader
from iagraph.data.store import FORMAT, iterate_store, store_info


class JetStoreReader(Reader):
    """All jets of a store, whatever splits it records.

    Raises:
        StoreError: If it is damaged.
    """

    format = FORMAT

    def __init__(self, path: Path) -> None:
        info = store_info(path)
        self.path, self.classes, self.jets = path, info.classes, info.jets

    def _parts(self, jets_per_part: int) -> Iterator[Jets]:
        return iterate_store(self.path, jets_per_part)
