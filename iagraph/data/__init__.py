"""Jets on disk and in memory: stores, public formats, data sets, the loader and the bundled sample."""

from typing import TYPE_CHECKING, Any

from iagraph.data.jets import Jets, StoreError
from iagraph.data.loader import JetLoader
from iagraph.data.readers import Reader, open_jets
from iagraph.data.sample import SAMPLES, resolve
from iagraph.data.sources import JetDataset, JetSource, StoredJets, keep_hardest
from iagraph.data.store import JetStore, StoreInfo, read_store, store_info
from iagraph.data.writer import StoreWriter, write_store

if TYPE_CHECKING:
    from iagraph.data.datasets import JetClass, QuarkGluon, TopTagging

__all__ = [
    "JetClass",
    "JetDataset",
    "JetLoader",
    "JetSource",
    "JetStore",
    "Jets",
    "QuarkGluon",
    "Reader",
    "SAMPLES",
    "StoreError",
    "StoreInfo",
    "StoreWriter",
    "StoredJets",
    "TopTagging",
    "keep_hardest",
    "open_jets",
    "read_store",
    "resolve",
    "store_info",
    "write_store",
]


def __getattr__(name: str) -> Any:
    # Only these classes need the packages of iagraph[data].
    if name in ("JetClass", "QuarkGluon", "TopTagging"):
        try:
            from iagraph.data import datasets
        except ImportError as error:
            raise ImportError(f"{name} needs more packages ({error}): pip install 'iagraph[data]'") from error
        return getattr(datasets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
