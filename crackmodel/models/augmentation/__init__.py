"""Random variations of tiles that fine-tuning learns from."""
