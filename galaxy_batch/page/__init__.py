"""The page of a release, and what pages are made of."""
