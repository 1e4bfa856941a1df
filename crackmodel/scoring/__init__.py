"""How a survey is scored: shards, workers and the run that drives them."""
