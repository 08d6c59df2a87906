"""Say what is installed and whether it works: the command ``iagraph doctor``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("doctor")
