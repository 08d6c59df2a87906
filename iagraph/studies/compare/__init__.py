"""Models trained over several seeds on the same jets, put side by side."""
