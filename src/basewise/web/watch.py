"""The watch's memory: every answer without its text, truths that come later, and what each window of rows showed.

One thread writes to an SQLite file what requests put into a queue, so that a full disk or a slow one costs rows of the watch and never
an answer. The file survives a kill: what was committed is there.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from basewise.core.hashing import generator
from basewise.web.limits import NotKept, Refusal
from basewise.web.metrics import Metrics
from basewise.web.windows import MOST_POOLED, WINDOW, Rows, look

MOST_WAITING = 50_000
MOST_KEPT = 200_000
"""Answers kept a task; older ones go, their windows stay."""
EVERY_SECONDS = 0.25
SHARE, SAVED_SECONDS = 0.1, 2.0
"""Share of the time that windows may be judged for, and how much of it is saved up for a burst."""
TABLES = """
create table if not exists answers(
  n integer primary key, id text unique, task text, version text, at real, label integer, p real, abstained integer, features blob);
create index if not exists by_task on answers(task, version, n);
create table if not exists shadows(id text, version text, label integer, primary key(id, version));
create table if not exists truths(id text primary key, label integer, at real);
create table if not exists versions(version text primary key, classes text);
create table if not exists windows(task text, version text, number integer, at real, last integer, found text,
  primary key(task, version, number));
"""
COLUMNS = "select n, label, p, abstained, features from answers where task = ? and version = ?"
_Row = tuple[Any, ...]
Outcome = tuple[str, bool, bool | None]
"""Of a request whose truth came: the version that answered, whether it was right, whether the shadow was (None: not asked)."""


class Truths(NamedTuple):
    """What came of labels: outcomes, then how many labels were kept, came for unknown ids, named no class, came for rows that had one."""

    found: list[Outcome]
    kept: int
    unknown: int
    no_class: int
    repeated: int


class Watch:
    """What was answered, by task; `refer` tells it of a version, `answered` and `shadowed` of rows, `truths` of labels."""

    def __init__(self, path: Path, metrics: Metrics) -> None:
        self.path, self.metrics = Path(path), metrics
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue(MOST_WAITING)
        self._versions: dict[str, dict[str, Any]] = {}
        self._thread: threading.Thread | None = None
        self._said: dict[str, dict[str, Any]] = {}
        self._credit, self._counted_at = SAVED_SECONDS, time.monotonic()
        self._behind: set[tuple[str, str]] = set()
        self._unjudged: dict[tuple[str, str], int] = {}

    def start(self) -> None:
        """Start the writing thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is waiting, then end."""
        if self._thread is not None:
            self._queue.put(("stop", None))
            self._thread.join(10)

    def refer(self, about: dict[str, Any]) -> None:
        """A version that may answer; its classes are kept, because labels may come after it is gone."""
        self._versions[about["version"]] = about
        self._put("versions", [(about["version"], json.dumps(about["classes"]))])

    def answered(
        self,
        task: str,
        about: dict[str, Any],
        request_id: str,
        probabilities: np.ndarray,
        features: np.ndarray | None,
    ) -> None:
        """Rows that a version has answered; (n, C) and (n, F). Never waits: rows that the queue cannot take are counted as lost."""
        now, threshold = time.time(), about["threshold"]
        labels = probabilities.argmax(1)
        rows: list[_Row] = []
        for i, label in enumerate(labels):
            p = float(probabilities[i, label])
            blob = features[i].astype(np.float16).tobytes() if features is not None else None
            unsure = int(threshold is not None and p < threshold)
            rows.append((f"{request_id}-{i}", task, about["version"], now, int(label), p, unsure, blob))
        self._put("answers", rows)

    def shadowed(self, task: str, request_id: str, about: dict[str, Any], probabilities: np.ndarray) -> None:
        """What the shadow would have said of the rows of a request."""
        labels = probabilities.argmax(1)
        rows = [(f"{request_id}-{i}", about["version"], int(label)) for i, label in enumerate(labels)]
        self._put("shadows", rows)

    def _put(self, table: str, rows: list[_Row]) -> None:
        try:
            self._queue.put_nowait((table, rows))
        except queue.Full:
            self.metrics.lost.inc(len(rows))

    def flush(self, seconds: float = 5.0) -> bool:
        """Until everything put so far is written; whether it was within this time."""
        if self._thread is None or not self._thread.is_alive():
            return True
        done, until = threading.Event(), time.monotonic() + seconds
        try:
            self._queue.put(("flush", done), timeout=seconds)
        except queue.Full:
            return False
        return done.wait(max(0.0, until - time.monotonic()))

    def truths(
        self,
        task: str,
        given: Sequence[tuple[str, str]],
        shadow: str | None = None,
        served: Iterable[str] = (),
    ) -> Truths:
        """Keep (id of an answer, name of its true class) pairs; what came of them.

        Refusal (503) keeps none of them where an answer may only not be written yet. Of a request the first label counts: its rows
        go one way together, so they are one draw. Of a row too: the evidence has been spent, a correction cannot take it back. A
        label is not kept where it is a class neither of the version that answered nor of those `served`: it is taken for a slip, and the
        right one may follow. Only answers of the version `shadow` count: labels come late, and an earlier shadow's errors are no evidence
        against it.
        """
        whole = self.flush()
        found: list[Outcome] = []
        counts: Counter[str] = Counter()
        try:
            with closing(self._open()) as file, file:
                named = {name for version in served for name in self._classes(file, version)}
                for id_, label in given:
                    row = file.execute(
                        "select version, label from answers where id = ? and task = ?", (id_, task)
                    ).fetchone()
                    if row is None and not whole:
                        raise Refusal(
                            503, "busy", "the latest answers are not written yet; post the labels again", 2.0
                        )
                    classes = [] if row is None else self._classes(file, row[0])
                    # or of a time before classes were kept: the label says nothing
                    if not classes:
                        counts["unknown"] += 1
                        continue
                    if label not in classes and label not in named:
                        counts["no_class"] += 1
                        continue
                    truth = _place(classes, label)
                    request = id_.rpartition("-")[0]
                    known = file.execute(
                        "select 1 from truths where id >= ? and id < ? limit 1",
                        (f"{request}-", f"{request}."),
                    ).fetchone()
                    new = file.execute(
                        "insert or ignore into truths values (?, ?, ?)", (id_, truth, time.time())
                    )
                    counts["kept" if new.rowcount else "repeated"] += 1
                    if known:
                        continue
                    beside = file.execute(
                        "select label from shadows where id = ? and version = ?", (id_, shadow)
                    ).fetchone()
                    agrees = None
                    if beside is not None and (theirs := self._classes(file, shadow or "")):
                        agrees = beside[0] == _place(theirs, label)
                    found.append((row[0], row[1] == truth, agrees))
        except sqlite3.Error as error:
            said = f"the watch cannot keep labels: {error}"
            raise NotKept(said, "its operator must free some space; post them again") from error
        return Truths(found, *(counts[name] for name in Truths._fields[1:]))

    def classes(self, version: str) -> list[str]:
        """Names of the classes of a version, also of one that is no longer open; none where they are not known."""
        try:
            with closing(self._open()) as file:
                return self._classes(file, version)
        except sqlite3.Error:
            return list(self._versions.get(version, {}).get("classes", ()))

    def _classes(self, file: sqlite3.Connection, version: str) -> list[str]:
        if version in self._versions:
            return list(self._versions[version]["classes"])
        found = file.execute("select classes from versions where version = ?", (version,)).fetchone()
        return list(json.loads(found[0])) if found else []

    def windows(self, task: str, version: str, last: int = 50) -> list[dict[str, Any]]:
        """What the latest windows of a version showed, oldest first."""
        return self._read(
            "select number, at, found from windows where task = ? and version = ? order by number desc limit ?",
            (task, version, last),
        )

    def _read(self, statement: str, values: Iterable[Any]) -> list[dict[str, Any]]:
        try:
            with closing(self._open()) as file:
                rows = file.execute(statement, tuple(values)).fetchall()
        except sqlite3.Error:
            return []
        return [{"number": n, "at": at, **json.loads(found)} for n, at, found in reversed(rows)]

    def totals(self, task: str) -> dict[str, Any]:
        """Rows, abstentions and labels of each version of a task."""
        statement = """select a.version, count(*), sum(a.abstained), count(t.id), sum(t.label = a.label), min(a.at), max(a.at)
            from answers a left join truths t on t.id = a.id where a.task = ? group by a.version"""
        try:
            with closing(self._open()) as file:
                rows = file.execute(statement, (task,)).fetchall()
        except sqlite3.Error as error:
            return {"error": f"the watch cannot be read: {error}"}
        names = ("rows", "abstained", "labelled", "right", "first", "last")
        return {version: dict(zip(names, [x or 0 for x in rest], strict=True)) for version, *rest in rows}

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = sqlite3.connect(self.path, timeout=5)
        file.execute("pragma journal_mode=wal")
        file.execute("pragma synchronous=normal")
        file.executescript(TABLES)
        return file

    def _run(self) -> None:
        """The writing thread. Its small products take one core: a second one would be the worker's."""
        with threadpool_limits(1):
            self._write_until_stopped()

    def _write_until_stopped(self) -> None:
        """Batches of rows, then a look at windows that are full."""
        going = True
        while going:
            taken = [self._queue.get()]
            stop = time.monotonic() + EVERY_SECONDS
            while (
                taken[-1][0] in ("answers", "shadows", "versions") and (left := stop - time.monotonic()) > 0
            ):
                try:
                    taken.append(self._queue.get(timeout=left))
                except queue.Empty:
                    break
            rows: dict[str, list[_Row]] = {"answers": [], "shadows": [], "versions": []}
            for what, value in taken:
                if what in rows:
                    rows[what].extend(value)
            self._write(rows)
            for what, value in taken:
                if what == "flush":
                    value.set()
                going = going and what != "stop"

    def _write(self, rows: dict[str, list[_Row]]) -> None:
        """One transaction; a disk that is full or a file that is broken costs these rows."""
        if not any(rows.values()):
            return
        try:
            with closing(self._open()) as file:
                with file:
                    file.executemany(
                        "insert or ignore into answers(id, task, version, at, label, p, abstained, features)"
                        " values (?, ?, ?, ?, ?, ?, ?, ?)",
                        rows["answers"],
                    )
                    file.executemany("insert or ignore into shadows values (?, ?, ?)", rows["shadows"])
                    file.executemany("insert or replace into versions values (?, ?)", rows["versions"])
                for key, count in Counter((r[1], r[2]) for r in rows["answers"]).items():
                    # counted here, so that the rows of a window are only read once they are all there
                    known = self._unjudged.get(key)
                    self._unjudged[key] = self._count(file, *key) if known is None else known + count
                    while self._unjudged[key] >= WINDOW and self._may_judge(*key) and self._look(file, *key):
                        # a batch may fill several windows
                        self._unjudged[key] = self._count(file, *key)
        except Exception:  # noqa: BLE001 - whatever fails, the thread goes on: without it nothing would be kept
            self.metrics.lost.inc(len(rows["answers"]))

    @staticmethod
    def _count(file: sqlite3.Connection, task: str, version: str) -> int:
        """Rows of a version after its last window."""
        (count,) = file.execute(
            "select count(*) from answers where task = ?1 and version = ?2 and n >"
            " (select coalesce(max(last), 0) from windows where task = ?1 and version = ?2)",
            (task, version),
        ).fetchone()
        return int(count)

    def _may_judge(self, task: str, version: str) -> bool:
        """Whether there is time for a window. Where there is not, the version falls behind and its next window is of its latest rows."""
        now = time.monotonic()
        self._credit = min(SAVED_SECONDS, self._credit + SHARE * (now - self._counted_at))
        self._counted_at = now
        if self._credit <= 0:
            self._behind.add((task, version))
        return self._credit > 0

    def _look(self, file: sqlite3.Connection, task: str, version: str) -> bool:
        """Judge the next window of a version once its rows are there; whether they were."""
        began = time.thread_time()
        about = self._versions.get(version)
        number, last = file.execute(
            "select count(*), coalesce(max(last), 0) from windows where task = ? and version = ?",
            (task, version),
        ).fetchone()
        behind = (task, version) in self._behind
        newest = f"select * from ({COLUMNS} order by n desc limit ?) where n > ? order by n"
        rows = file.execute(
            newest if behind else f"{COLUMNS} and n > ? order by n limit ?",
            (task, version, *((WINDOW, last) if behind else (last, WINDOW))),
        ).fetchall()
        if about is None or len(rows) < WINDOW:
            return False
        self._behind.discard((task, version))
        (passed,) = file.execute(
            "select count(*) from answers where task = ? and version = ? and n > ? and n < ?",
            (task, version, last, rows[0][0]),
        ).fetchone()
        first = file.execute(f"{COLUMNS} order by n limit ?", (task, version, WINDOW)).fetchall()
        earlier = file.execute(
            "select n from answers where task = ? and version = ? and n < ?", (task, version, rows[0][0])
        ).fetchall()
        drawn = generator("pool", version, number).permutation(len(earlier))[:MOST_POOLED]
        marks = ",".join("?" * len(drawn))
        pool = file.execute(
            f"{COLUMNS} and n in ({marks})", (task, version, *(earlier[i][0] for i in drawn))
        ).fetchall()
        before = self.windows(task, version, 1)
        found = look(about, Rows(first, pool, rows), number, before[0] if before else None)
        found["passed_over"] = passed
        with file:
            values = (task, version, number, time.time(), rows[-1][0], json.dumps(found))
            file.execute("insert or replace into windows values (?, ?, ?, ?, ?, ?)", values)
            if number % 50 == 49:
                self._trim(file, task)
        self.metrics.watched(task, version, found)
        self._credit -= time.thread_time() - began
        return True

    @staticmethod
    def _trim(file: sqlite3.Connection, task: str) -> None:
        """Forget old answers with what belongs to them, but for the first window of each version, its reference."""
        latest = "select n from answers where task = ? order by n desc limit ?"
        placed = (
            "select n, row_number() over (partition by version order by n) place from answers where task = ?"
        )
        reference = f"select n from ({placed}) where place <= ?"
        file.execute(
            f"delete from answers where task = ? and n not in ({latest}) and n not in ({reference})",
            (task, task, MOST_KEPT, task, WINDOW),
        )
        for table in ("shadows", "truths"):
            file.execute(f"delete from {table} where id not in (select id from answers)")


def _place(classes: list[str], label: str) -> int:
    """Place of a class by its name; -1 for one that the version does not know, and so cannot have been right about."""
    return classes.index(label) if label in classes else -1
