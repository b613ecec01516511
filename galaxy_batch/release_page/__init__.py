"""The page of a release: counts, sky maps, example galaxies."""
