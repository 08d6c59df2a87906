"""Measure speed and memory on this machine; print Markdown and optionally write JSON."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

CLONE = Path(__file__).parents[2]


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Run the benchmarks, which are next to the package in a clone of the repository."""
    if not (CLONE / "benchmark" / "commands.py").is_file():
        sys.exit("error: benchmarks come with a clone of the repository, not with the installed package")
    sys.path.insert(0, str(CLONE))  # ahead of scripts/, which has a benchmark.py
    import_module("benchmark.commands").main(parser, words)
