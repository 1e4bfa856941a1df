"""Scheduled runs on one machine: a Prefect server, its deployment, and an end in order."""
