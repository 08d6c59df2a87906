"""Studies of many runs: python scripts/study.py compare configs/compare_qg.yaml [key=value ...] [--jobs N]."""

import argparse
import shlex
import sys
from pathlib import Path

from iagraph.command_line import positive


def main() -> None:
    """Parses the command line and runs the study."""
    try:
        _main()
    except KeyboardInterrupt:  # also while packages are imported, which takes seconds
        sys.exit("interrupted: finished runs are kept; the same command goes on with the others")


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    text = "train models over several seeds on the same jets; write tables and a figure. Started again, it goes on."
    compare_parser = commands.add_parser(
        "compare", help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    compare_parser.add_argument("config", type=Path, help="YAML file, for example configs/compare_qg.yaml")
    compare_parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of single keys, seeds=[1,2]")
    compare_parser.add_argument(
        "--jobs", type=positive, default=1, metavar="N", help="runs at a time, which share the threads (default: 1)"
    )
    try:
        if {"-h", "--help"} & set(sys.argv[1:]):
            from iagraph.studies.config import describe_comparison

            compare_parser.epilog = f"keys of a comparison:\n\n{describe_comparison()}"
        arguments, more = parser.parse_known_args()
        if strange := [item for item in more if item.startswith("-")]:  # changes may stand behind the options, too
            parser.error(f"unrecognized arguments: {' '.join(strange)}")
        from iagraph.studies.compare import compare
        from iagraph.studies.config import load_comparison
        from iagraph.train.run import USER_ERRORS
    except ImportError as error:
        sys.exit(f"error: studies need {error.name}: pip install 'iagraph[train]'")

    try:
        comparison = load_comparison(arguments.config, [*arguments.overrides, *more])
        folder = compare(comparison, arguments.jobs, shlex.join(["python", "scripts/study.py", *sys.argv[1:]]))
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    print(f"\n{(folder / 'table.md').read_text(encoding='utf-8')}\nAll of it is in {folder}")


if __name__ == "__main__":
    main()
