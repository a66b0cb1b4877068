"""Compute and what applies to it."""

from __future__ import annotations

import pytest

from basewise.stats.regime import COPYRIGHT, SUMMARY, TECHNICAL, regime


@pytest.mark.parametrize(
    ("here", "base", "generates", "kind"),
    [
        (1e16, None, True, "not general-purpose"),
        (2e23, None, True, "general-purpose"),
        (2e23, None, False, "not general-purpose"),
        (2e25, None, True, "systemic risk"),
        (1e23, 1e24, True, "not general-purpose"),
        (5e23, 1e24, True, "modifier"),
        (1e10, 0.0, True, "not general-purpose"),
    ],
)
def test_thresholds(here: float, base: float | None, generates: bool, kind: str) -> None:
    assert regime(here, base, generates).kind == kind


def test_duties_and_bad_compute() -> None:
    assert TECHNICAL in regime(2e23).duties
    assert regime(2e23, open_weights=True).duties == (SUMMARY, COPYRIGHT)
    with pytest.raises(ValueError, match="FLOP came"):
        regime(-1.0)
