"""Photographs: listing, decoding, metadata and tiles. No model, no Ray."""
