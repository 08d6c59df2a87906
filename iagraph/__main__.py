"""``python -m iagraph`` is the command ``iagraph``, also where that is not on the path."""

from iagraph.cli import main

if __name__ == "__main__":
    main()
