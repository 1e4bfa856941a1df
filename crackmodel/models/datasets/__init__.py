"""Labelled images: found, combined, divided, and looked through for duplicates."""
