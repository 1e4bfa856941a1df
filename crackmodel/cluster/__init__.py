"""Ray itself: where it comes from, what its nodes have, and commands that run as its jobs."""
