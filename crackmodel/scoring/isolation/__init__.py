"""Isolation of images that kill their worker or hang in it."""
