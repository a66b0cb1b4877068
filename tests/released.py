"""Finished runs on the tiny table, each made once a session, and releases of them to look at and to tamper with."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import tiny
from basewise.steps.adapt import adapt
from basewise.steps.choose import ChooseOptions
from basewise.steps.release import ReleaseOptions, release

POLICY = """
[licence]
signed = ["base:tiny-base | Apache-2.0 | A. Person"]

[groups]
on = "warn"

[robustness]
on = "warn"
"""


@functools.cache
def place() -> Path:
    """A folder of this session's own."""
    folder = Path(tempfile.mkdtemp(prefix="basewise-released-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def run_folder(method: str = "words", count: int = 120) -> Path:
    """`adapt` on the tiny table: decision, evidence, rows and predictor. "words" and "majority" need no base."""
    here = place() / f"{method}-{count}"
    if (here / "run" / "decision.json").exists():
        return here / "run"
    here.mkdir()
    table = tiny.write_csv(here / "tickets.csv", tiny.rows(count))
    base = None if method in ("words", "majority") else str(tiny.base_folder(here / "tiny-base"))
    options = ChooseOptions(curves=False)
    adapt(table, method=method, base=base, target="queue", to=here / "run", options=options)
    return here / "run"


def policy_file() -> Path:
    """A policy in which a person signs for the tiny base."""
    path = place() / "policy.toml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def signed_for(**more: Any) -> ReleaseOptions:
    """Somebody answers for the rows."""
    return replace(ReleaseOptions(data_licence="own", by="A. Person"), **more)


@functools.cache
def keys() -> tuple[Path, Path]:
    """(private, public) key files."""
    from basewise.engine.signing import new_key

    return new_key(place() / "key.pem")[:2]


def released(method: str = "words", signed: bool = False, weights: str = "alone") -> Path:
    """A release of `run_folder(method)`; never to be changed: copy it first."""
    to = place() / f"release-{method}-{'signed' if signed else 'unsigned'}-{weights}"
    if to.exists():
        return to
    rules = None if method in ("words", "majority") else policy_file()
    key = keys()[0] if signed else None
    release(run_folder(method), to=to, policy=rules, key=key, options=signed_for(weights=weights))
    return to


def copy_of(folder: Path, to: Path) -> Path:
    """A release that may be changed."""
    return Path(shutil.copytree(folder, to, symlinks=True))
