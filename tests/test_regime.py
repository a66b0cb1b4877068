"""Compute and what applies to it."""

from __future__ import annotations

import pytest

from basewise.stats.regime import regime


@pytest.mark.parametrize(
    ("flop", "generates", "kind"),
    [
        (1e16, True, "not general-purpose"),
        (2e23, True, "general-purpose"),
        (2e23, False, "not general-purpose"),
        (2e25, True, "systemic risk"),
    ],
)
def test_thresholds(flop: float, generates: bool, kind: str) -> None:
    assert regime(flop, generates).kind == kind


def test_duties_and_bad_compute() -> None:
    assert "technical documentation" in regime(2e23).duties
    assert regime(2e22).duties == ()
    with pytest.raises(ValueError, match="FLOP came"):
        regime(-1.0)
