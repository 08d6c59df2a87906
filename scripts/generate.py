"""Generate jets with Pythia8: python scripts/generate.py configs/generate_qg.yaml --jets 18000 --out qg.h5.

What is finished is kept in OUT.parts until the store is written: whatever ends it, the same command goes on.
"""

import argparse
import signal
import sys

from iagraph.command_line import escape_unprintable
from iagraph.files import user_path


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _shard(text: str) -> tuple[int, int]:
    share, shares = (int(part) for part in text.split("/"))
    if not 1 <= share <= shares:
        raise ValueError
    return share, shares


def main() -> None:
    """Parses the command line and generates."""
    escape_unprintable()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=user_path, help="the recipe, for example configs/generate_qg.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the recipe, seed=7")
    parser.add_argument("--jets", type=_positive, required=True, help="number of jets, all classes and shards together")
    parser.add_argument("--out", type=user_path, required=True, help="the jet store to write")
    parser.add_argument("--workers", type=_positive, default=1, help="processes; the file does not depend on it")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/M", help="make the K-th of M shares only")
    parser.add_argument("--force", action="store_true", help="replace an existing file, and what is left of other jets")
    arguments = parser.parse_intermixed_args()  # changes may stand anywhere

    try:
        from iagraph.data.generator import ERRORS, generate
    except ImportError as error:
        sys.exit(f"error: {error}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a time limit is an interruption, too
    try:
        made = generate(
            arguments.config,
            arguments.out,
            jets=arguments.jets,
            workers=arguments.workers,
            overrides=arguments.overrides,
            shard=arguments.shard,
            force=arguments.force,
        )
    except ERRORS as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        sys.exit(f"interrupted: {str(error) or f'{arguments.out} is not written'}")
    splits = ", ".join(f"{count:,} {name}" for name, count in made.splits.items())
    size = f"{made.particles:,} particles, {made.bytes / 1e6:.1f} MB"
    print(f"{arguments.out}: {made.jets:,} jets of {' and '.join(made.classes)} ({splits}), {size}")


if __name__ == "__main__":
    main()
