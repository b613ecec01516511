"""The network, its checkpoint, and the classifier that runs it."""
