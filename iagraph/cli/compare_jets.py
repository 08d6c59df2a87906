"""Compare the jets of two files, such as generated and real ones, by means, Kolmogorov-Smirnov tests and a figure."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.files import user_path

EXTRA = "data"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments, compare, and print."""
    parser.add_argument(
        "files", nargs=2, type=user_path, metavar="FILE", help="jet stores, public files of jets, or sample:qg"
    )
    parser.add_argument("--out", type=user_path, metavar="FIGURE", help="draw the distributions to FIGURE.png and .pdf")
    arguments = parser.parse_args(words)
    names = [path.stem for path in arguments.files]
    if names[0] == names[1]:
        names = list(map(str, arguments.files))
    if names[0] == names[1]:
        parser.error(f"{names[0]} is given twice")
    from iagraph.data import StoreError
    from iagraph.data.comparison import Comparison
    from iagraph.data.overview import overview_of
    from iagraph.plotting import save_figure

    try:
        overviews = [overview_of(path) for path in arguments.files]
        comparison = Comparison(dict(zip(names, overviews, strict=True)))
        if arguments.out is not None:
            save_figure(comparison.figure(), arguments.out)
    except (StoreError, OSError) as error:
        sys.exit(f"error: {error}")
    print(comparison.table())
