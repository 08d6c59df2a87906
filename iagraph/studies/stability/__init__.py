"""How much the outputs of trained models vary with the training seed and with the measurement of jets."""
