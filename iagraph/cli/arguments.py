"""What the commands share: what they read from their command lines, and how they print."""

import argparse
import sys


def escape_unprintable() -> None:
    r"""Make standard output and error show what their encoding lacks as an escape, ``\u03b3`` for a gamma in latin-1.

    Called first of all: names of species, classes and files have any characters, and terminals, pipes and logs
    of batch systems may know few.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a stand-in of a notebook, or none at all
            stream.reconfigure(errors="backslashreplace")


def positive(text: str) -> int:
    """A whole number of at least 1, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"should be 1 or more, found {text}")
    return int(text)
