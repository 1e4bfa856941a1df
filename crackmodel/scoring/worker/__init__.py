"""The worker of a run: fetch, decode, tile, run the model, write rows."""
