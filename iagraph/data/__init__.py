"""Jets on disk and in memory: the store, the loader and the sample that comes with the package."""

from iagraph.data.jets import Jets, StoreError
from iagraph.data.loader import JetLoader
from iagraph.data.readers import Reader, open_jets
from iagraph.data.sample import SAMPLES, resolve
from iagraph.data.sources import JetDataset, JetSource, StoredJets, keep_hardest
from iagraph.data.store import JetStore, StoreInfo, iterate_store, read_store, store_info
from iagraph.data.writer import StoreWriter, write_store

__all__ = [
    "JetDataset",
    "JetLoader",
    "JetSource",
    "JetStore",
    "Jets",
    "Reader",
    "SAMPLES",
    "StoreError",
    "StoreInfo",
    "StoreWriter",
    "StoredJets",
    "iterate_store",
    "keep_hardest",
    "open_jets",
    "read_store",
    "resolve",
    "store_info",
    "write_store",
]
