"""Writing a report: files, locks, numbers in the log."""
