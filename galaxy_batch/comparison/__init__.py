"""What two catalogs have in common, how far they differ, and how far they may."""
