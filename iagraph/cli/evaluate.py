"""Evaluate a trained tagger again: iagraph evaluate runs/qg-001 [--data FILE]."""

import argparse
import sys
from collections.abc import Sequence

from iagraph.cli.process import prepare_process

EXTRA = "train"


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Parse the arguments and evaluate."""
    parser.add_argument("run", help="folder of a finished run, for example runs/qg-001, or pretrained:NAME")
    parser.add_argument("--data", metavar="FILE", help="jet store or quoted pattern: split 'test' if any, else all")
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], help="override the device of the run")
    arguments = parser.parse_args(words)
    from iagraph.train.evaluate import evaluate
    from iagraph.train.trainer import USER_ERRORS

    prepare_process()
    try:
        folder = evaluate(arguments.run, arguments.data, arguments.device)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    report = (folder / "report.md").read_text(encoding="utf-8")
    print(f"\n{report}\nResults: {folder}")
