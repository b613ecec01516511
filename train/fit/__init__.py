"""Fit of the network: frozen features, two phases, many workers."""
