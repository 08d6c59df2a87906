"""Measure speed and memory on this machine; prints Markdown, and writes JSON where asked."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, whose benchmark is this file

from benchmark.commands import main
from iagraph.command_line import escape_unprintable

if __name__ == "__main__":
    escape_unprintable()
    main(argparse.ArgumentParser(description=__doc__), sys.argv[1:])
