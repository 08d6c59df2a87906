"""A trained model pruned by rules and, for comparison, at random and by kinematics."""
