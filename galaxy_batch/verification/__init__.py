"""What one file of a catalog, and one row, must be."""
