"""The part of a run outside of Ray's tasks: hand out shards, commit their results."""
