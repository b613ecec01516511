"""Files at any fsspec URI, however slow, throttled or far away their store is."""
