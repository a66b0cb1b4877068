"""What a release must pass: one check a file."""
