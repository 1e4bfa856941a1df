"""What comes out: one Delta Lake table of Parquet files, and the ways to read it. No model, no Ray."""
