"""Parsing and printing utilities shared by the commands."""

import argparse
import sys
from pathlib import Path

from iagraph.files import run_path


def escape_unprintable() -> None:
    r"""Escape characters that standard output and error cannot encode, for example gamma as ``\u03b3`` in latin-1.

    Every command calls it first: names of species, classes and files may have any characters, which some terminals and
    batch logs cannot show.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not a notebook's replacement, or None
            stream.reconfigure(errors="backslashreplace")


def trained(text: str) -> Path:
    """The folder of a run, or of a model of the package (``pretrained:NAME``), as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the package has no model of this name.
    """
    try:
        return run_path(text)
    except FileNotFoundError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def positive(text: str) -> int:
    """Parse a positive integer, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the text is not a positive integer.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"should be 1 or more, found {text}")
    return int(text)
