"""Benchmark suites, one file each: which data they read and how its rows become tasks; they run nothing."""
