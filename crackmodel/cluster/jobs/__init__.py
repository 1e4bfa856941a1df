"""Run a command on a Ray cluster from outside of it, through Ray's Jobs API."""
