"""What runs inside a Ray task: fetch, decode, tile, run the model, write rows."""
