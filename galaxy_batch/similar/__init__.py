"""Galaxies that look alike: the nearest rows of a catalog by the embeddings of their cutouts."""
