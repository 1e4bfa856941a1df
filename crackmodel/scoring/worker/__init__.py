"""The workers of a run: fetch, decode, tile, score, write rows."""
