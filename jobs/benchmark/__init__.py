"""Rates of a catalog job and of each of its stages: `python -m jobs.benchmark CONFIG.toml`."""
