"""Training runs: from a dataset to a checkpoint."""
