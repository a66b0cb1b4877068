"""What a base promises cheaply: each file offers `rank(view) -> float`, higher is better."""
