"""A job while it runs: how it is spread, how far it is, what it takes, and how it outlives what kills its workers."""
