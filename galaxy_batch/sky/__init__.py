"""Geometry of the sphere: pixels, cones, neighbours."""
