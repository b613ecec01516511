"""Engines compute the network, one file for each kind of hardware."""
