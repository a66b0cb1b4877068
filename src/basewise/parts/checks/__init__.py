"""What a release must pass: each file gives `check(subject, limits) -> CheckResult` and `THRESHOLDS` (see core/gate.py)."""
