"""Compare the jets of two files: the command ``iagraph compare-jets``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("compare-jets")
