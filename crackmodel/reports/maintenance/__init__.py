"""Keeping a report small and sound: compaction, orphan files, checks, history."""
