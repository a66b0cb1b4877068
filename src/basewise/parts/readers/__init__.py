"""Readers of corpus sources: `takes(place)` says whether a place is theirs, `read(place, columns)` gives its documents one by one."""
