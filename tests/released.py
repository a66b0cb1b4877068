"""A run on a tiny base and a run without a base, made once a session, and releases of them to look at and to tamper with."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tiny
from basewise.core.release import Release
from basewise.steps.adapt import adapt
from basewise.steps.choose import ChooseOptions
from basewise.steps.release import ReleaseOptions, release

LENIENT = """
[score]
beat_controls = false
"""


def run_folder(place: Path, method: str = "probe", base: bool = True, count: int = 120) -> Path:
    """`adapt` on the tiny table: a finished run with decision, evidence, rows and predictor."""
    table = tiny.write_csv(place / "tickets.csv", tiny.rows(count))
    folder = str(tiny.base_folder(place / "tiny-base")) if base else None
    options = ChooseOptions(curves=False)
    kind: dict[str, Any] = {"base": folder} if base else {"base": "none"}
    adapt(table, method=method, target="queue", to=place / "run", options=options, **kind)
    return place / "run"


def signed_for(**more: Any) -> ReleaseOptions:
    """Somebody answers for the rows."""
    return replace(ReleaseOptions(data_licence="own", by="A. Person"), **more)
