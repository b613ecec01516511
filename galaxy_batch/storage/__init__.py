"""Files at any URI: bounded reads, retries, drivers, sorting and counting on disk."""
