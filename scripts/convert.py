"""Convert files of jets to a jet store: the command ``iagraph convert``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("convert")
