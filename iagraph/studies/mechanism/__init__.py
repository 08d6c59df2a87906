"""What single heads and pair features of a trained model do, and what its layers encode, after arXiv 2605.09881."""
