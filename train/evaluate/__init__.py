"""Evaluation on held-out galaxies: accuracy, calibration, attention."""
