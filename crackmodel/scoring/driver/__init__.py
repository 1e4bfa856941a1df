"""The driver of a run: hand out shards, commit their results."""
