"""Checkpoints of earlier captioners: read without running anything of theirs, written as our own."""
