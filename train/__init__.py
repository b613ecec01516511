"""Training: volunteers' votes -> calibrated checkpoint and report. Run from the checkout; not installed."""
