"""Checkpoints by name: which one is meant, where it is kept, what is exported of it."""
