"""``python -m iagraph`` runs the command ``iagraph``, even where that command is not on the ``PATH``."""

from iagraph.cli import main

if __name__ == "__main__":
    main()
