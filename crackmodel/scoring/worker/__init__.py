"""The part of a run inside a Ray task: fetch, decode, tile, run the model, write rows."""
