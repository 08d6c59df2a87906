"""Judge a trained tagger again: python scripts/evaluate.py runs/qg-001 [--data FILE]."""

import argparse
import sys

from iagraph.command_line import escape_unprintable
from iagraph.files import user_path


def main() -> None:
    """Parses the command line and evaluates."""
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=user_path, help="folder of a finished run, for example runs/qg-001")
    parser.add_argument("--data", metavar="FILE", help="jet store or quoted pattern: part 'test', or all")
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], help="instead of the device of the run")
    arguments = parser.parse_args()

    try:
        from iagraph.memory import keep_freed_memory
        from iagraph.train.run import USER_ERRORS, evaluate
    except ImportError as error:
        sys.exit(f"error: judging a model needs {error.name}: pip install 'iagraph[train]'; see scripts/doctor.py")

    keep_freed_memory()
    try:
        folder = evaluate(arguments.run, arguments.data, arguments.device)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    report = (folder / "report.md").read_text(encoding="utf-8")
    print(f"\n{report}\nAll of it is in {folder}")


if __name__ == "__main__":
    main()
