"""What a survey hands in: its tables of objects, where the cutouts are, the formats that they come in."""
