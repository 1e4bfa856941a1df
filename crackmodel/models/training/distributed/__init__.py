"""Fine-tuning by several processes of a Ray cluster."""
