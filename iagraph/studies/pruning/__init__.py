"""A trained model pruned by rules and, beside them, by chance and by kinematics."""
