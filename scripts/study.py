"""Compare models, prune one, or look into it: the command ``iagraph study``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("study")
