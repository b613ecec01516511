"""Which rows a person should look at, and why."""
