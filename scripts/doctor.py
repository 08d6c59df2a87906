"""Tell what is installed, what is missing and why, and test the library: python scripts/doctor.py.

It takes less than half a minute, and ends with 1 if something is wrong. That an extra or a device is missing is not.
"""

import argparse
import sys
import time


def main() -> None:
    """Prints what is found."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    start = time.monotonic()
    try:
        from iagraph.command_line import escape_unprintable
        from iagraph.doctor import examine
    except ImportError as error:
        sys.exit(f"error: {error}; install the library and what it needs: pip install iagraph")
    escape_unprintable()
    wrong = 0
    for finding in examine():
        print(finding, flush=True)
        wrong += finding.wrong
    print(f"{wrong} wrong, after {time.monotonic() - start:.0f} s")
    sys.exit(min(wrong, 1))


if __name__ == "__main__":
    main()
