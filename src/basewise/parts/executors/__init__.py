"""Where jobs run: each file offers `run(jobs, progress) -> results` with identical results everywhere."""
