"""Learning curves: models trained on more and more of the same jets."""
