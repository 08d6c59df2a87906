"""Measure speed and memory on this machine; print Markdown and optionally write JSON."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

CLONE = Path(__file__).parents[2]


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Run the benchmarks, which are beside the package in a clone."""
    if not (CLONE / "benchmark" / "commands.py").is_file():
        sys.exit("error: benchmarks come with a clone of the repository, not with the installed package")
    sys.path.insert(0, str(CLONE))  # before the folder of scripts, which has a file of this name
    import_module("benchmark.commands").main(parser, words)
