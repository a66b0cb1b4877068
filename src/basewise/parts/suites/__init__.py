"""Benchmark suites: each file gives `tasks(data)`, how rows become tasks, and the `FILES` that it reads; it runs nothing."""
