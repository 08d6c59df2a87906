"""``python -m iagraph`` runs the command ``iagraph``, even where that is not on the path."""

from iagraph.cli import main

if __name__ == "__main__":
    main()
