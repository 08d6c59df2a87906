"""Download a published set of jets: the command ``iagraph download``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("download")
