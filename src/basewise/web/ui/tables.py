"""Tables: files that were dropped on the page, kept under <runs>/.tables/<key>/, and what a first look at them shows.

The key is the digest of name and content, so the same file is kept once. Rows stay in this folder and in the run folders.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from basewise.core.errors import BasewiseError, TableError, UnknownName
from basewise.core.files import Progress, atomic_path
from basewise.core.split import asked_split

if TYPE_CHECKING:
    from basewise.core.table import Table
    from basewise.core.task import Task

FOLDER = ".tables"
KEY = re.compile(r"[0-9a-f]{16}")
PIECE = 1 << 20
LOOKS_KEPT = 3
KEPT_GROUP = "kept_group"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What a user settled about a table; nothing where it is to be guessed. `split` as on the command line."""

    target: str | None = None
    inputs: tuple[str, ...] = ()
    split: str | None = None
    query: str | None = None


def keep(root: Path, name: str, stream: BinaryIO) -> str:
    """Keep a file and return its key. TableError when it is empty or no table."""
    name = re.sub(r"[^\w.-]+", "-", Path(name.replace("\\", "/")).name).strip("-.")[:100] or "table.csv"
    digest, size = hashlib.sha256(name.encode() + b"\0"), 0
    while piece := stream.read(PIECE):
        digest.update(piece)
        size += len(piece)
    if not size:
        raise TableError(f"{name} is empty", "drop a file that holds rows")
    key = digest.hexdigest()[:16]
    folder = root / FOLDER / key
    fresh = not folder.exists()
    stream.seek(0)
    with atomic_path(folder / name) as temporary, open(temporary, "wb") as file:
        shutil.copyfileobj(stream, file, PIECE)
    try:
        read(folder / name)
    except BasewiseError as error:
        # a database waits for its query
        if "holds the tables" not in str(error):
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
            raise
    return key


def path_of(root: Path, key: str) -> Path:
    """The file behind a key."""
    folder = root / FOLDER / key
    files = (
        [p for p in folder.iterdir() if not p.name.startswith(".")]
        if KEY.fullmatch(key) and folder.is_dir()
        else []
    )
    if not files:
        raise UnknownName(f"no table {key!r} is kept here", "drop the file again on New run")
    return files[0]


def every(root: Path, most: int = 8) -> list[tuple[str, Path]]:
    """(key, file) of the tables kept here, the latest first."""
    folders = [p for p in (root / FOLDER).glob("*") if KEY.fullmatch(p.name)]
    found = [
        (p.name, path_of(root, p.name)) for p in folders if any(f for f in p.iterdir() if f.name[0] != ".")
    ]
    return sorted(found, key=lambda item: -item[1].stat().st_mtime)[:most]


def read(path: Path, query: str | None = None) -> Table:
    """The table, read once and kept in memory while it is the one that is looked at."""
    return _read(path, path.stat().st_mtime_ns, query)


@functools.lru_cache(maxsize=2)
def _read(path: Path, _changed: int, query: str | None) -> Table:
    from basewise.core.table import read_table

    return read_table(path, query=query)


class Look:
    """An audit in a thread of its own: a page need not wait for that of a large table, and whoever asks again shares it."""

    def __init__(self, audited: Callable[[Progress], Task]) -> None:
        self.done, self.since = threading.Event(), time.monotonic()
        self.said = "reading"
        self.task: Task | None = None
        self.error: BaseException | None = None
        # a daemon, so that Ctrl-C does not wait for it
        threading.Thread(target=self._run, args=(audited,), daemon=True).start()

    def _run(self, audited: Callable[[Progress], Task]) -> None:
        try:
            self.task = audited(self._say)
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            self.error = error
        finally:
            self.done.set()

    def _say(self, _done: int, _total: int, what: str) -> None:
        self.said = what


Looked = tuple[Path, int, Roles]
_looks: dict[Looked, Look] = {}
_looks_lock = threading.Lock()


def looking(path: Path, roles: Roles) -> Look:
    """The audit of a table under these roles (steps/audit), begun if it has not been; the latest few are kept."""
    key = (path, path.stat().st_mtime_ns, roles)
    with _looks_lock:
        found = _looks.pop(key, None) or Look(functools.partial(_audited, *key))
        _looks[key] = found
        for old in [k for k, one in _looks.items() if one.done.is_set() and k != key][:-LOOKS_KEPT]:
            del _looks[old]
    return found


def look(path: Path, roles: Roles) -> Task:
    """The audit of a table under these roles, waited for. One that failed is begun anew when it is asked for again."""
    found = looking(path, roles)
    found.done.wait()
    if found.error is not None:
        with _looks_lock:
            for key in [k for k, one in _looks.items() if one is found]:
                del _looks[key]
        raise found.error
    assert found.task is not None
    return found.task


def _audited(path: Path, changed: int, roles: Roles, progress: Progress) -> Task:
    from basewise.steps.audit import AuditOptions, audit

    how, group, time_column = asked_split(roles.split)
    return audit(
        _read(path, changed, roles.query),
        inputs=list(roles.inputs) or None,
        target=roles.target,
        group=group,
        time=time_column,
        split=how,
        options=AuditOptions(name=path.name.split(".")[0], progress=progress),
    )


def examples(table: Table, name: str, most: int = 3) -> list[str]:
    """A few values of a column, to see what it is."""
    head = table.data.slice(0, 50).column(name).to_pylist()
    seen = dict.fromkeys(str(value) for value in head if value not in (None, ""))
    return list(seen)[:most]


def relabelled(source: Path | None, task: Task, changes: dict[int, str | None], split: Sequence[str]) -> Any:
    """A new table with other labels: {row id: label, or None to leave the row out}.

    source: the file that the task was made of, when it is still here: then all its columns are kept. `split` (n,): the side of
    each row, kept in a column of its own, so that the locked test rows stay the same ones; so is whose rows belong together.
    """
    import pyarrow as pa

    ids = [int(i) for i in task.rows.row_ids]
    label = {i: task.classes[c] for i, c in zip(ids, task.rows.labels, strict=True)}
    label.update({i: to for i, to in changes.items() if i in label})  # type: ignore[misc]
    kept = [i for i in ids if label[i] is not None]
    side = dict(zip(ids, split, strict=True))
    if source is not None:
        data = read(source).data.take(pa.array(kept))
    else:
        text = dict(zip(ids, task.rows.texts, strict=True))
        place = {i: n for n, i in enumerate(ids)}
        name = task.inputs[0] if len(task.inputs) == 1 else "text"
        columns = {name: [text[i] for i in kept]}
        columns |= {other: [values[place[i]] for i in kept] for other, values in task.metadata.items()}
        data = pa.table(columns)
    group = dict(zip(ids, task.rows.groups.tolist(), strict=True))
    made = {task.target: label, "kept_split": side, KEPT_GROUP: group}
    for name, values in ((name, [of[i] for i in kept]) for name, of in made.items()):
        if name in data.column_names:
            data = data.drop_columns([name])
        data = data.append_column(name, pa.array([str(v) for v in values], pa.string()))
    return data
