"""What the scripts read from their command lines in common."""

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1, as the ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"should be 1 or more, found {text}")
    return int(text)
