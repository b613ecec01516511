"""What computes the network, one module for each kind of hardware."""
