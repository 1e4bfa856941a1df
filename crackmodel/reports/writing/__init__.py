"""Writing a report: files of rows, the lock of a survey, its numbers in the log."""
