"""How a model is made, kept and run."""
