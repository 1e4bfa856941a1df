"""The card of a model version, as a record and for people."""
