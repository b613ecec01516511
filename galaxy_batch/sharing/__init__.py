"""A catalog for others: copied with its checkpoint, cards and citation to a folder, a store or the Hugging Face hub."""
