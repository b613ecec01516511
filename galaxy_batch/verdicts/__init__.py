"""Verdicts of people on the galaxies of a catalog: imported, merged, kept beside it."""
