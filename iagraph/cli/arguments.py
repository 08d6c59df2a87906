"""Shared utilities of scripts: parsing and printing."""

import argparse
import sys


def escape_unprintable() -> None:
    r"""Escape characters that the encoding of standard output and error lacks, as ``\u03b3`` for gamma in latin-1.

    Every script calls it first: names of species, classes and files are arbitrary, terminals and batch logs limited.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a notebook's replacement, or None
            stream.reconfigure(errors="backslashreplace")


def positive(text: str) -> int:
    """A positive integer, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the text is no positive integer.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"should be 1 or more, found {text}")
    return int(text)
