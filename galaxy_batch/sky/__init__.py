"""Positions on the sky: HEALPix, cones, matching."""
