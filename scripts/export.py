"""Write a trained tagger for other software: the command ``iagraph export``."""

from iagraph.cli import main

if __name__ == "__main__":
    main("export")
