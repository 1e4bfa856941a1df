"""How rows get into a report: the worker's file, the survey's lock, the log's fence."""
