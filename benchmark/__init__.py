"""Speed and memory of the library, beside others; part of a clone, not of the installed package."""
