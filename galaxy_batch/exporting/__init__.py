"""Rows as other programs want them, and chosen as people ask for them."""
