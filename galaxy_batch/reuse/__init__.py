"""Predictions of a previous catalog that need not be computed again."""
