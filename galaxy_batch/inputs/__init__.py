"""What a survey hands in: the manifest of its objects, and where their cutouts are."""
