"""Reading of the manifest: the table of a survey's objects and the URIs of their cutouts."""
