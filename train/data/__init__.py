"""Training data: votes, splits, cutouts."""
