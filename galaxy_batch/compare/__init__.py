"""Comparison of two catalogs."""
