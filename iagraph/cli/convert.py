"""Convert public jet files (Top tagging reference, EnergyFlow quark/gluon, JetClass) to one jet store, or join stores.

Trees and tables with other column names need a map of their branches (--map):

    tree: events
    particles: {px: part_px, py: part_py, pz: part_pz, energy: part_e}
    label: {branch: truth, classes: {0: gluon, 1: quark}}
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from iagraph.cli.arguments import branch_map
from iagraph.files import user_path

EXTRA = "data"
INTERRUPTED = "nothing was written"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments, convert, draw, and print a summary."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="files, patterns or sample:qg; all of one format, seen from content",
    )
    parser.add_argument("--out", required=True, type=_store, metavar="NAME.h5", help="writes NAME.h5, .png and .pdf")
    parser.add_argument(
        "--classes",
        action="append",
        metavar="CLASSES",
        help="keep only these classes: QCD,Tbqq, or merged ones, background=QCD,Zqq (repeat for each)",
    )
    parser.add_argument(
        "--map", type=user_path, metavar="FILE.yaml", help="map of branches for trees and tables with other names"
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")
    arguments = parser.parse_args(words)
    from iagraph.data import StoreError, store_info
    from iagraph.data.classes import parse_classes
    from iagraph.data.convert import convert
    from iagraph.plotting import figure_files, save_figure

    store = arguments.out
    try:
        for figure in figure_files(store):
            if figure.exists() and not arguments.force:
                raise StoreError(f"{figure}: already exists; choose another name, or --force to replace it")
        classes = None if arguments.classes is None else parse_classes(arguments.classes)
        branches = branch_map(arguments.map)
        overview = convert(arguments.files, store, force=arguments.force, classes=classes, branches=branches)
    except (StoreError, OSError) as error:
        sys.exit(f"error: {error}")
    info = store_info(store)
    size = f"{info.bytes / 1e6:.1f} MB, {info.bytes / max(info.particles, 1):.1f} bytes a particle"
    print(f"{store}: {info.jets:,} jets, {info.particles:,} particles, {size}\n\n{overview.table()}")
    print(f"\nfingerprint {info.fingerprint}")
    try:
        save_figure(overview.figure(), store)
    except OSError as error:
        sys.exit(f"error: the store is complete, but the figure cannot be written ({error})")
    print(f"Check {figure_files(store)[0]}: is this what you expected?")


def _store(text: str) -> Path:
    path = user_path(text)
    if path.suffix != ".h5" or path.is_dir():
        raise argparse.ArgumentTypeError(f"should be the name of a file that ends in .h5, found {text}")
    return path
