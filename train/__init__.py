"""From volunteers' votes to a calibrated checkpoint. Run from the checkout; not installed."""
