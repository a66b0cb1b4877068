"""Per-row scores: each file offers `score(probabilities, labels) -> (n,) array` and `HIGHER_IS_BETTER`."""
