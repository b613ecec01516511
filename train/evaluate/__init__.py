"""Evaluation on held-out galaxies: accuracy, calibration, review, Grad-CAM."""
