"""The command line: one command a verb; errors are one line and exit code 2."""
