"""Measure speed and memory on this machine; prints Markdown, and writes JSON where asked."""

import argparse
from pathlib import Path

from iagraph.benchmarks.loader import benchmark_loader


def main() -> None:
    """Parse the arguments, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    commands = parser.add_subparsers(dest="command", required=True)
    loader = commands.add_parser("loader", help="jets per second of loaders, beside PyTorch Geometric's")
    loader.add_argument("--jets", type=int, default=500_000, help="jets in the store (default: %(default)s)")
    loader.add_argument("--batch-size", type=int, default=256, help="jets per batch (default: %(default)s)")
    loader.add_argument("--repeats", type=int, default=3, help="epochs timed (default: %(default)s)")
    convert = commands.add_parser("convert", help="jets per second and memory of converting published formats")
    convert.add_argument("--jets", type=int, default=100_000, help="jets of the larger files (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.command == "loader":
        report = benchmark_loader(arguments.jets, arguments.batch_size, arguments.repeats)
    else:
        from iagraph.benchmarks.convert import benchmark_convert  # needs the packages of iagraph[data]

        report = benchmark_convert(arguments.jets)
    print(report.markdown())
    if arguments.json is not None:
        report.write(arguments.json)


if __name__ == "__main__":
    main()
