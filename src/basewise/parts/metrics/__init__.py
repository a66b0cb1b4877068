"""Per-row scores: each file offers `score(probabilities, labels) -> (n,) array`, whose mean is the metric, `NAME`, `HIGHER_IS_BETTER`.

A metric that is no mean of rows (macro F1) gives its linearisation: one pseudo-value a row, whose mean is the metric and whose spread
is its sampling error, so intervals and paired tests are the same for all. One that lies in 0..1 says so (`SHARE = True`); where
higher is better too, `choose` can go by it. `BY_CLASS = True` where classes weigh alike however few their rows: a rare class is then
never taken for certain.
"""
