"""Morphology catalogs from millions of galaxy cutouts."""
