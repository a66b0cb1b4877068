"""Where jobs run: each file offers `run(function, jobs, workers)`, which yields the results in the order of the jobs, the same
everywhere."""
