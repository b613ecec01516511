"""Accuracy of a published catalog, from the verdicts of people on a sample of its rows."""
