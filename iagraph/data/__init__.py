"""Jets on disk and in memory: the store, the loader and the sample that comes with the package."""

from iagraph.data.jets import Jets, StoreError
from iagraph.data.loader import JetDataset, jet_loader, keep_hardest
from iagraph.data.sample import SAMPLES, resolve
from iagraph.data.store import StoreInfo, read_store, store_info, write_store

__all__ = [
    "JetDataset",
    "Jets",
    "SAMPLES",
    "StoreError",
    "StoreInfo",
    "jet_loader",
    "keep_hardest",
    "read_store",
    "resolve",
    "store_info",
    "write_store",
]
