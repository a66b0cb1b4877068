"""Budget and Cost: what the user allows, and what a job is predicted and measured to take."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from basewise.core.errors import BudgetError

_TIME = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = {"kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "b": 1.0}


def _quantity(text: str | float, units: dict[str, float], what: str, example: str) -> float:
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        value, factor = float(text), 1.0
    else:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(text))
        unit = (found.group(2).lower() if found else "") or "?"
        if not found or unit not in units:
            raise BudgetError(
                f"cannot read {what} {str(text)!r}: expected a number with a unit of {', '.join(units)}",
                f"write it like {example}",
            )
        value, factor = float(found.group(1)), units[unit]
    if not 0 < value < math.inf:
        raise BudgetError(
            f"{what} must be a number above zero, {str(text)!r} came", f"write it like {example}"
        )
    return value * factor


def parse_seconds(text: str | float) -> float:
    """Seconds from "90s", "10m", "1.5h"; a bare number is seconds."""
    return _quantity(text, _TIME, "the time budget", "90s, 10m or 1.5h")


def parse_bytes(text: str | float) -> float:
    """Bytes from "500MB", "2GiB"; a bare number is bytes."""
    return _quantity(text, _SIZE, "the size", "500MB or 2GiB")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the user allows. Times in seconds, sizes in bytes; None means no limit of that kind."""

    seconds: float = 600.0
    memory_bytes: float | None = None
    download_bytes: float | None = 500e6
    latency_seconds: float | None = None
    licences: tuple[str, ...] = ()
    """SPDX ids allowed for bases; empty allows the permissive ones that the catalogue ships."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one job takes: predicted before, measured after. Seconds of wall time; peak memory of the process."""

    seconds: float = 0.0
    memory_bytes: float = 0.0
    flop: float = 0.0
    predict_seconds_per_row: float = 0.0


def duration(seconds: float) -> str:
    """A time as people say it: 3.2 ms, 41 s, 12 min, 5.1 hours, 12 days."""
    if 0 < seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    for size, unit, name in (
        (172_800.0, 86_400.0, "days"),
        (7_200.0, 3_600.0, "hours"),
        (120.0, 60.0, "min"),
    ):
        if seconds >= size:
            return f"{seconds / unit:.3g} {name}"
    return f"{max(0.0, seconds):.3g} s"
