"""What comes in: listing, decoding, metadata and tiles. No model, no Ray."""
