"""Prefect flows: thin, without arithmetic or input and output of their own."""
