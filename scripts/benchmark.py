"""Measure speed and memory: the command ``iagraph benchmark``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("benchmark")
