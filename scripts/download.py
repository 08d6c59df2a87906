"""Download a published set of jets and convert it to jet stores; says where these are, and what they hold."""

import argparse
import sys

try:
    from iagraph.command_line import escape_unprintable
    from iagraph.data.datasets import SPLITS, JetClass, PublishedJets, QuarkGluon, Split, TopTagging
    from iagraph.data.download import DownloadError
    from iagraph.data.jets import StoreError
    from iagraph.files import user_path
except ImportError as error:
    hint = "" if "pip install" in str(error) else ": pip install 'iagraph[data]'"
    sys.exit(f"error: {error}{hint}")

DATASETS = {"top": TopTagging, "quark_gluon": QuarkGluon, "jetclass": JetClass}


def main() -> None:
    """Parse the arguments, download, convert, and print the data card."""
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=DATASETS, help="1.7 GB, 20 files, or 14 GB for each part of JetClass's ten")
    parser.add_argument("root", type=user_path, help="folder for the published files and the stores")
    parser.add_argument("--split", choices=SPLITS, action="append", help="only this part, of jetclass (default: all)")
    arguments = parser.parse_args()
    try:
        splits: list[Split] = arguments.split or list(SPLITS)
        for split in splits:
            dataset: PublishedJets = DATASETS[arguments.name](arguments.root, split)
            stores = " ".join(map(str, dataset.stores))
            print(f"{split}: {len(dataset):,} jets in {stores}")
        print(f"\n{dataset.card()}")
    except (DownloadError, StoreError, ImportError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: what has been downloaded is kept, and the next run goes on")


if __name__ == "__main__":
    main()
