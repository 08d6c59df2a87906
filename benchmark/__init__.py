"""Speed and memory of the library compared with others; part of a clone, not of the installed package."""
