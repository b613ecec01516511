"""Galaxies of a published catalog for people to look at: drawn, bundled with their cutouts, shown, and handed on."""
