"""A simulated survey for demonstrations and tests."""
