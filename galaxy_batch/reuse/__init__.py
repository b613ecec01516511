"""Answers of an earlier catalog that need not be computed again."""
