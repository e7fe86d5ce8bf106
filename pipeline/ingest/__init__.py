"""The drop folder: plan, caption in shards, finish."""
