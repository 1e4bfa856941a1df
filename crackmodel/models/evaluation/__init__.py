"""How good a model is: metrics, intervals, pictures and a page."""
