"""Pages over run folders: they read what a run wrote and decide nothing."""
