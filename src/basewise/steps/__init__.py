"""The life cycle: one verb a file."""
