"""Download a published set of jets and convert it to jet stores; print their paths and contents."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.files import user_path

EXTRA = "data"
INTERRUPTED = "downloaded files are kept; the same command resumes"
NAMES = {"top": "TopTagging", "quark_gluon": "QuarkGluon", "jetclass": "JetClass"}
SPLITS = ("train", "val", "test")


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments, download, convert, and print the data card."""
    parser.add_argument("name", choices=NAMES, help="1.7 GB, 20 files, or 14 GB for each part of JetClass's ten")
    parser.add_argument("root", type=user_path, help="folder for the published files and the stores")
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this split (jetclass; default: all)")
    arguments = parser.parse_args(words)
    from iagraph.data import StoreError, datasets
    from iagraph.data.download import DownloadError

    try:
        for split in arguments.split or SPLITS:
            dataset: datasets.PublishedJets = getattr(datasets, NAMES[arguments.name])(arguments.root, split)
            stores = " ".join(map(str, dataset.stores))
            print(f"{split}: {len(dataset):,} jets in {stores}")
        print(f"\n{dataset.card()}")
    except (DownloadError, StoreError, OSError) as error:
        sys.exit(f"error: {error}")
