"""A model that answers: engines, loading, and whether it has seen the like."""
