"""The run folder: one lock, one journal of finished jobs, one count of looks at the test rows.

A job is named by the digest of what it is; a finished one is a file under journal/, so a killed run goes on where it
stopped and a finished one costs nothing. Arrays are kept as npz, read with pickles refused.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import re
import shutil
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from basewise.core.errors import BasewiseError, RunError
from basewise.core.files import home, lock, read_json, write_bytes, write_json
from basewise.core.hashing import digest_json

IDENTITY = "job.json"
BEGUN = (IDENTITY, "task.json", "rows.parquet", "race.json", ".lock")
"""What a run writes before its first job is done."""


@dataclass(frozen=True)
class RunDir:
    """A run folder. `identity` is the digest of everything that decides the run's outcome."""

    folder: Path
    identity: str

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, identity: str) -> Iterator[RunDir]:
        """Lock the folder for one process; refuse one that belongs to another job.

        A run that fails or is stopped before it has done anything takes back what it wrote: the folder is free for another run.
        """
        folder = Path(folder)
        check_place(folder)
        before = {path.name for path in folder.iterdir()} if folder.exists() else None
        with lock(folder / ".lock", wait=False):
            known = read_json(folder / IDENTITY)["identity"] if (folder / IDENTITY).exists() else None
            if known not in (None, identity):
                raise RunError(f"the folder {folder} holds another run", "give another --to, or delete it")
            if known is None:
                write_json(folder / IDENTITY, {"identity": identity})
            clear(folder)
            try:
                yield cls(folder, identity)
            except (BasewiseError, KeyboardInterrupt):
                if known is None:
                    take_back(folder, before)
                raise

    def saved(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and values of a finished job; None when it has not run. A damaged file counts as not run."""
        path = self.folder / "journal" / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            values = json.loads(bytes(arrays.pop("__values__")).decode())
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
            path.unlink()
            return None
        return arrays, values

    def keep(self, name: str, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """Write a finished job, whole or not at all."""
        buffer = io.BytesIO()
        packed = np.frombuffer(json.dumps(values, default=float).encode(), dtype=np.uint8)
        np.savez_compressed(buffer, **arrays, __values__=packed)  # type: ignore[arg-type]
        write_bytes(self.folder / "journal" / f"{name}.npz", buffer.getvalue())


def clear(folder: Path) -> None:
    """Remove the halves of files that a killed process left behind; the folder must be locked."""
    for name in (*BEGUN, "looks.json", "evidence.parquet", "decision.json", "report.html", "journal/*.npz"):
        path = Path(name)
        for half in folder.glob(str(path.parent / f".{path.name}.*.part")):
            half.unlink(missing_ok=True)
    for half in folder.glob(".predictor.*"):
        shutil.rmtree(half, ignore_errors=True)


def take_back(folder: Path, before: set[str] | None) -> None:
    """Remove what a run wrote that has done no job; nothing where there is more. `before`: names that were there, None for no folder."""
    new = {path.name for path in folder.iterdir()} - (before or set())
    if not new <= set(BEGUN):
        return
    # the error that ended the run is the one to be told
    with contextlib.suppress(OSError):
        for name in new:
            (folder / name).unlink()
        if before is None:
            folder.rmdir()


def check_place(folder: Path) -> None:
    """Raise RunError where a run folder cannot be made, before any work is done for it."""
    nearest = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise RunError(f"{nearest} is a file, a folder was expected", "name another folder for the run")
    if not os.access(nearest, os.W_OK):
        raise RunError(f"the folder {nearest} cannot be written", "name another folder for the run")


def free_folder(name: str, identity: str, parent: Path = Path("runs")) -> Path:
    """runs/<name>, or runs/<name>-2, -3 … when that one holds another job."""
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    for number in range(1, 10_000):
        folder = parent / (stem if number == 1 else f"{stem}-{number}")
        if not (folder / IDENTITY).exists() or read_json(folder / IDENTITY)["identity"] == identity:
            return folder
    raise RunError(f"{parent} holds 10,000 runs named {stem}", "give --to")


class Looks(NamedTuple):
    """Looks at some test rows: all that are known of, and how many of these were by other runs of this user."""

    total: int
    elsewhere: int


def count_look(folder: Path, test_digest: str, who: str, unseen: bool = False) -> Looks:
    """Note one look at the test rows and return how many there have been of these very rows.

    A look is kept in the folder and under the user's cache folder, since the usual second look comes from another run; where
    that cannot be written only the folder counts. unseen: no decision came of this run yet, so the same look by a run that was killed
    has told nobody anything and is this one.
    """
    path = folder / "looks.json"
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, RunError):
            held.enter_context(lock(home() / "looks" / ".lock"))
        looks = read_json(path) if path.exists() else []
        if unseen and any((look["test_digest"], look.get("who")) == (test_digest, who) for look in looks):
            return looks_of(folder, test_digest)
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        look = {"test_digest": test_digest, "when": now, "who": who, "id": uuid.uuid4().hex}
        with contextlib.suppress(OSError, RunError):
            known = [*_looks_at_home(test_digest), {**look, "run": str(folder.absolute())}]
            write_json(_home_file(test_digest), known)
        write_json(path, [*looks, look])
    return looks_of(folder, test_digest)


def looks_of(folder: Path, test_digest: str | None) -> Looks:
    """How often the test rows of this digest were looked at, by this run and by others."""
    if not test_digest:
        return Looks(0, 0)
    path = folder / "looks.json"
    mine = [look for look in (read_json(path) if path.exists() else []) if look["test_digest"] == test_digest]
    known = {look.get("id") for look in mine}
    others = sum(look.get("id") not in known for look in _looks_at_home(test_digest))
    return Looks(len(mine) + others, others)


def _home_file(test_digest: str) -> Path:
    return home() / "looks" / f"{digest_json(test_digest)[:32]}.json"


def _looks_at_home(test_digest: str) -> list[dict[str, Any]]:
    """The looks that are noted under the cache folder; none where they cannot be read."""
    try:
        return [look for look in read_json(_home_file(test_digest)) if isinstance(look, dict)]
    except (RunError, TypeError):
        return []
