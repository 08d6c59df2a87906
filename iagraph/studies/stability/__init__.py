"""How much the outputs of trained models move: with the seed of their training, and with the measurement of jets."""
