"""What keeps a report small and sound: compaction, orphans, checks, history."""
