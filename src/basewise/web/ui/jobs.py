"""Jobs: the commands that the pages start, each a process of its own that outlives the app.

A job is a folder <runs>/.jobs/<name>: job.json (its words, its process), out.txt, err.txt, progress.json, exit.txt. While it runs
it holds a lock on `alive` that it was born with, so that whether it runs is known after a crash of the app too, and a second
start under the same name is refused by the lock itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.core.errors import RunError, UnknownName
from basewise.core.files import explain_os_error, read_json, write_json

FOLDER = ".jobs"
NAME = re.compile(r"[\w][\w.-]{0,99}")
RESERVED = ("release.", "verify.", "serve.", "pull.")
"""How jobs that are no runs begin, so that they share no folder with one."""
LAUNCH = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the app itself was started with it ignored
from basewise.cli.main import main
code = 1
try:
    main()
except SystemExit as end:
    code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    raise
finally:
    with open(os.environ["BASEWISE_EXIT"], "w") as file:
        file.write(str(code))
"""
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One started command. `kind`: the verb; `about`: what the pages keep beside it (the table, the settings)."""

    name: str
    kind: str
    words: tuple[str, ...]
    about: dict[str, Any]
    pid: int
    started: float
    folder: Path

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        if child := _children.get(self.pid):
            # lets go of a finished child of this app
            child.poll()
        return held(self.folder / "alive")

    @property
    def exit_code(self) -> int | None:
        """Of a job that ended by itself; None while it runs or when it was killed."""
        try:
            return int((self.folder / "exit.txt").read_text())
        except (OSError, ValueError):
            return None

    @property
    def progress(self) -> dict[str, Any]:
        """What it said last about what it does; empty before the first word."""
        path = self.folder / "progress.json"
        return read_json(path) if path.exists() else {}

    @property
    def error(self) -> str:
        """The line with which it ended, when it did not end well."""
        if self.alive or self.exit_code == 0:
            return ""
        lines = [line for line in self.text("err.txt").splitlines() if line.strip()]
        told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        if told:
            return told[-1]
        if self.exit_code is None:
            return "it was killed before it could end; start it again, it goes on from its journal"
        return lines[-1] if lines else f"it ended with code {self.exit_code}"

    def has_said(self, words: str) -> bool:
        """Whether these words stand in a line of its standard error, wherever in it."""
        path = self.folder / "err.txt"
        if not path.exists():
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            return any(words in line for line in file)

    def text(self, name: str, most: int = 20_000) -> str:
        """The end of out.txt or err.txt."""
        path = self.folder / name
        if not path.exists():
            return ""
        content = path.read_bytes()[-most:]
        return content.decode("utf-8", errors="replace")


def held(path: Path) -> bool:
    """Whether a process holds the lock on this file."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        # shared: two who look do not see each other
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def start(root: Path, name: str, words: Sequence[str], about: dict[str, Any]) -> Job:
    """Start `basewise WORDS` under a name; RunError while a job of that name still runs."""
    if not NAME.fullmatch(name):
        raise RunError(f"{name!r} is no name for a run", "use letters, digits, dots and dashes")
    folder = root / FOLDER / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        alive = os.open(folder / "alive", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise explain_os_error(error, folder) from error
    try:
        if not _taken(alive):
            raise RunError(f"{name} is running already", "wait for it, stop it, or give another name")
        for left in ("job.json", "exit.txt", "progress.json"):
            (folder / left).unlink(missing_ok=True)
        pid = _launch(folder, words, alive)
    finally:
        os.close(alive)
    value = {
        "format": 1,
        "kind": words[0],
        "words": list(words),
        "about": about,
        "pid": pid,
        "started": time.time(),
    }
    write_json(folder / "job.json", value)
    return find(root, name)


def _taken(handle: int) -> bool:
    """Take the lock; a page that is just looking whether it is held lets go within a moment."""
    for _ in range(5):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def _launch(folder: Path, words: Sequence[str], alive: int) -> int:
    """The process, in a session of its own, with the lock as its inheritance; its id."""
    settings = {
        "BASEWISE_EXIT": str(folder / "exit.txt"),
        "BASEWISE_PROGRESS": str(folder / "progress.json"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-c", LAUNCH, *words]
    with open(folder / "out.txt", "wb") as out, open(folder / "err.txt", "wb") as err:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **settings},
            start_new_session=True,
            pass_fds=(alive,),
        )
    _children[child.pid] = child
    return child.pid


def find(root: Path, name: str) -> Job:
    """A job by its name; UnknownName when there is none."""
    folder = root / FOLDER / name
    if not NAME.fullmatch(name) or not (folder / "job.json").exists():
        raise UnknownName.of("job", name, [job.name for job in every(root)])
    value = read_json(folder / "job.json")
    return Job(
        name=name,
        kind=value["kind"],
        words=tuple(value["words"]),
        about=value["about"],
        pid=value["pid"],
        started=value["started"],
        folder=folder,
    )


def named(root: Path, name: str, *kinds: str) -> Job | None:
    """The job under a name, if it is of one of these kinds; None otherwise."""
    job = find(root, name) if (root / FOLDER / name / "job.json").exists() else None
    return job if job and job.kind in kinds else None


def every(root: Path) -> list[Job]:
    """All jobs ever started here, the latest first."""
    names = [path.parent.name for path in (root / FOLDER).glob("*/job.json")]
    return sorted((find(root, name) for name in names if NAME.fullmatch(name)), key=lambda j: -j.started)


def note(job: Job, about: dict[str, Any]) -> None:
    """Keep more beside a job, for a later app too."""
    path = job.folder / "job.json"
    write_json(path, {**read_json(path), "about": {**job.about, **about}})


def stop(job: Job) -> None:
    """Ask a job to end as Ctrl-C would: what it has so far is kept."""
    if not job.alive:
        raise RunError(f"{job.name} is not running", "there is nothing to stop")
    # it ended by itself a moment ago
    with contextlib.suppress(ProcessLookupError):
        os.kill(job.pid, signal.SIGINT)
