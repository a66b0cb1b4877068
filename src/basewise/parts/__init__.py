"""Everything that can be added: one thing = one file; the file name is its key."""
