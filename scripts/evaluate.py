"""Evaluate a trained tagger again, also on other jets: the command ``iagraph evaluate``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("evaluate")
