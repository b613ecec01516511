"""A running job: workers, isolation of crashing cutouts, progress and metrics."""
