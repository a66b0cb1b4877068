"""The queue of a worker: rows of many requests to batches by tokens, deadlines first kept, nobody waiting for a full batch.

An idle worker takes what is there at once, so a single client waits for nothing; while a batch is computed the next one gathers
by itself. A request with many rows is taken in slices between those of others, so it cannot hold them up. Rows that nobody waits for
(`beside`) are computed while no others wait, in batches of a slice.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from basewise.steps.hosting import Answered, Part

STEP_TOKENS = 3_072
"""Tokens of a batch: two passes of the encoder, so that its sorting by length has something to sort."""
SLICE_TOKENS = 1_024
"""Tokens that one request may take of a batch while others wait."""
MOST_LOOKED_AT = 256
"""Jobs that are weighed for a batch: with thousands waiting, the thread must compute and not count."""


@dataclass
class Job:
    """One request on its way: `texts` with `lengths` in tokens, answered from `done` on; `deadline` on the monotonic clock."""

    number: int
    version: str
    texts: list[str]
    tokens: Any
    lengths: np.ndarray
    deadline: float
    watched: bool = False
    beside: bool = False
    done: int = 0
    cancelled: bool = False
    parts: list[Answered] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.texts) - self.done


class Late(Exception):
    """The deadline passed before the rows could be computed."""


def take(
    jobs: list[Job], budget: int = STEP_TOKENS, slice_tokens: int = SLICE_TOKENS
) -> list[tuple[Job, int]]:
    """(job, rows to compute of it) of the next batch, earliest deadline first; every job gets a slice before one gets two.

    At least one row is always taken, so a row longer than the budget is computed alone.
    """
    order = sorted(jobs, key=lambda j: j.deadline)
    counts = dict.fromkeys(range(len(order)), 0)
    left = budget
    for share in (slice_tokens, budget):
        for place, job in enumerate(order):
            start, room = job.done + counts[place], min(share, left)
            # a row has a token or more
            ends = np.cumsum(job.lengths[start : start + max(room, 1)])
            rows = int(np.searchsorted(ends, room, side="right"))
            if not rows and left == budget and len(ends):
                rows = 1
            if rows:
                counts[place] += rows
                left -= int(ends[rows - 1])
            if left <= 0:
                break
        if left <= 0:
            break
    return [(order[place], rows) for place, rows in counts.items() if rows]


class Queue:
    """Jobs waiting for the compute thread. `answer`: batch to answers; `finish(job, answered)`: called once a job."""

    def __init__(
        self, answer: Callable[[list[Part]], list[Answered]], finish: Callable[[Job, Answered], None]
    ) -> None:
        self._answer, self._finish = answer, finish
        self._jobs: dict[int, Job] = {}
        self._came = itertools.count()
        self._order: list[tuple[bool, float, int, Job]] = []
        """A heap by deadline, those beside last; jobs that are done or cancelled stay in it until they come to its top."""
        self._ready = threading.Condition()
        self._closed = False

    def add(self, job: Job) -> None:
        with self._ready:
            self._jobs[job.number] = job
            heapq.heappush(self._order, (job.beside, job.deadline, next(self._came), job))
            self._ready.notify()

    def cancel(self, number: int) -> None:
        """Nothing more is computed for this job; nobody is told."""
        with self._ready:
            if (job := self._jobs.pop(number, None)) is not None:
                job.cancelled = True

    def close(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify()

    def run(self) -> None:
        """The compute thread: batches until closed."""
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    return
                late, first = self._first(time.monotonic())
                asked = [job for job in first if not job.beside]
                batch = take(asked) if asked else take(first, SLICE_TOKENS)
            for job in late:
                self._finish(job, Answered(error=Late()))
            if batch:
                self._step(batch)

    def _first(self, now: float) -> tuple[list[Job], list[Job]]:
        """(jobs that are too late, which are let go of; the jobs whose deadlines come next)."""
        late: list[Job] = []
        first: list[tuple[bool, float, int, Job]] = []
        while self._order and len(first) < MOST_LOOKED_AT:
            entry = heapq.heappop(self._order)
            _, deadline, _, job = entry
            if self._jobs.get(job.number) is not job:
                continue
            if deadline < now:
                late.append(self._jobs.pop(job.number))
            else:
                first.append(entry)
        for entry in first:
            heapq.heappush(self._order, entry)
        return late, [job for _, _, _, job in first]

    def _step(self, batch: list[tuple[Job, int]]) -> None:
        """Compute one batch and finish the jobs that are whole."""
        parts = []
        for job, rows in batch:
            span = slice(job.done, job.done + rows)
            tokens = job.tokens.take(np.arange(span.start, span.stop)) if job.tokens is not None else None
            parts.append(Part(job.version, job.texts[span], tokens, job.watched))
        try:
            answers = self._answer(parts)
        except Exception as error:  # noqa: BLE001 - the shared pass failed: every job of the batch is told, the thread goes on
            answers = [Answered(error=error) for _ in parts]
        for (job, rows), answered in zip(batch, answers, strict=True):
            job.done += rows
            job.parts.append(answered)
            if answered.error is None and job.left:
                continue
            with self._ready:
                self._jobs.pop(job.number, None)
            if not job.cancelled:
                self._finish(job, answered if answered.error else _joined(job.parts))


def _joined(parts: list[Answered]) -> Answered:
    if len(parts) == 1:
        return parts[0]
    features = [p.features for p in parts if p.features is not None]
    return Answered(
        np.concatenate([p.probabilities for p in parts]), np.concatenate(features) if features else None
    )
