"""Training data: votes, labels, splits, cutouts."""
