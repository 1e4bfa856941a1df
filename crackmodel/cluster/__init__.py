"""Ray itself: sessions, nodes, capacity, and commands that run as its jobs."""
