"""What a base promises cheaply: each file offers `rank(features (n, D), labels (n,), card) -> float`, higher is better."""
