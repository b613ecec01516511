"""Fetching and decoding of cutouts to uint8 pixels, the same in training and inference."""
