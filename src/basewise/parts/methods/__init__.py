"""How a base is adapted: each file offers REQUIRES, `estimate`, `fit` and `load` (see core/method.py)."""
