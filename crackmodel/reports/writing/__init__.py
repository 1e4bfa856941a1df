"""How rows get into a report: a worker's file, the lock of a survey, the numbers in the log."""
