"""One run over one survey, and one night over many surveys."""
