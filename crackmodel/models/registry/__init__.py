"""Where model versions live, and which of them has which alias."""
