"""Studies of many runs, each with its tables and figures: what ``iagraph study`` calls."""
