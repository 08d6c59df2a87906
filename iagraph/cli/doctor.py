"""Check what is installed and what is missing, and test the library.

Takes less than half a minute; exit status 1 if something is wrong. A missing extra or device is not an error.
"""

import argparse
import sys
import time
from collections.abc import Sequence


def main(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Check the installation and print the findings."""
    parser.parse_args(words)
    start = time.monotonic()
    from iagraph.doctor import examine

    wrong = 0
    for finding in examine():
        print(finding, flush=True)
        wrong += finding.wrong
    print(f"{wrong} wrong, after {time.monotonic() - start:.0f} s")
    sys.exit(min(wrong, 1))
