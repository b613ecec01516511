"""What all pages are made of: HTML, figures and sky maps."""
