"""Generate jets with Pythia8: iagraph generate generate_qg --jets 18000 --out qg.h5.

Finished parts are kept in OUT.parts until the store is written; after an interruption the same command resumes.
"""

import argparse
import signal
import sys
from collections.abc import Sequence

from iagraph.cli.arguments import positive, recipe_for
from iagraph.files import user_path

EXTRA = "generate"
INTERRUPTED = "no store is written"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and generate."""
    parser.add_argument(
        "recipe",
        type=recipe_for("generate"),
        help="name or YAML file, for example generate_qg or configs/generate_qg.yaml",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes of the recipe, seed=7")
    parser.add_argument("--jets", type=positive, required=True, help="total number of jets of all classes and shards")
    parser.add_argument("--out", type=user_path, required=True, help="the jet store to write")
    parser.add_argument("--workers", type=positive, default=1, help="processes; the result does not depend on it")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="K/M", help="only the K-th of M shards")
    parser.add_argument("--force", action="store_true", help="replace an existing file or unfinished parts")
    arguments = parser.parse_intermixed_args(words)  # overrides may come anywhere
    from iagraph.data.generator import ERRORS, generate

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # batch systems send it at the time limit
    try:
        made = generate(
            arguments.recipe,
            arguments.out,
            jets=arguments.jets,
            workers=arguments.workers,
            overrides=arguments.overrides,
            shard=arguments.shard,
            force=arguments.force,
        )
    except ERRORS as error:
        sys.exit(f"error: {error}")
    splits = ", ".join(f"{count:,} {name}" for name, count in made.splits.items())
    size = f"{made.particles:,} particles, {made.bytes / 1e6:.1f} MB"
    print(f"{arguments.out}: {made.jets:,} jets of {' and '.join(made.classes)} ({splits}), {size}")


def _shard(text: str) -> tuple[int, int]:
    shard, _, shards = text.partition("/")
    if not (shard.isdecimal() and shards.isdecimal() and 1 <= int(shard) <= int(shards)):
        raise argparse.ArgumentTypeError(f"should be K/M with K from 1 to M, found {text}")
    return int(shard), int(shards)
