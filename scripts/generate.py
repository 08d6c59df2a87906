"""Generate jets with Pythia8: the command ``iagraph generate``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("generate")
