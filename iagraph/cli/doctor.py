"""Say what is installed, what is missing and why, and test the library.

It takes less than half a minute, and ends with 1 if something is wrong. That an extra or a device is missing is not.
"""

import argparse
import sys
import time
from collections.abc import Sequence


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Prints what is found."""
    parser.parse_args(words)
    start = time.monotonic()
    from iagraph.doctor import examine

    wrong = 0
    for finding in examine():
        print(finding, flush=True)
        wrong += finding.wrong
    print(f"{wrong} wrong, after {time.monotonic() - start:.0f} s")
    sys.exit(min(wrong, 1))
