"""Studies of runs with tables and figures, called by ``iagraph study``."""
