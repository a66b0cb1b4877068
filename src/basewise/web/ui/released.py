"""Releases on disk: where they lie, what they are called, and the jobs that make and check them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from basewise.core.errors import UnknownName
from basewise.core.release import RECORD, Release
from basewise.web.ui import jobs


def place(root: Path) -> Path:
    """Where releases lie: beside the runs."""
    return root.parent / "releases"


def names(root: Path) -> list[str]:
    """Names of the release folders, the latest first."""
    found = [p.parent for p in place(root).glob(f"*/{RECORD}") if jobs.NAME.fullmatch(p.parent.name)]
    return [p.name for p in sorted(found, key=lambda p: -(p / RECORD).stat().st_mtime)]


def record_of(root: Path, name: str) -> dict[str, Any]:
    """The record of a release; RunError where it is damaged or of a newer version."""
    if name not in names(root):
        raise UnknownName.of("release", name, names(root))
    return Release.load(place(root) / name).record()


def job_of(root: Path, kind: str, name: str) -> jobs.Job | None:
    """The job that makes ("release") or checks ("verify") a release."""
    return jobs.named(root, f"{kind}.{name}", kind)
