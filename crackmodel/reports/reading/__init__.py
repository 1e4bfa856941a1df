"""Reading a report: rows, views, SQL, what is left to score, what changed."""
