"""Train and evaluate a tagger: the command ``iagraph train``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("train")
