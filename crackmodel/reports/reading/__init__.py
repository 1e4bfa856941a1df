"""What a report says: rows, views, SQL, what is left to score, and what changed."""
