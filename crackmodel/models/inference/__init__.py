"""Engines, loading of models, and out-of-distribution detection."""
