"""Where a base comes from: each file offers `cards()` and `load(card, store, progress) -> Base`."""
