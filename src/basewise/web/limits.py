"""What a request may be, before any compute: bytes, depth, rows, time to send it, requests a minute, rows waiting."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from basewise.core.errors import RunError

MOST_BUCKETS = 10_000
_NESTING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string that never ends counts as one to the end: sought again from each of its quotes, it would take quadratic time."""


class Refusal(Exception):
    """A request that is not answered: `status`, a short `code`, a message with the fix, seconds until it may come again."""

    def __init__(self, status: int, code: str, message: str, retry_after: float | None = None) -> None:
        self.status, self.code, self.message, self.retry_after = status, code, message, retry_after
        super().__init__(message)


class NotKept(RunError):
    """What the service cannot write, on a full or broken disk: nothing that whoever asks could mend."""


def depth_of(body: bytes) -> int:
    """How deep brackets and braces of a JSON text are nested, outside of its strings; also of a broken one."""
    deepest = depth = 0
    for found in _NESTING.finditer(body):
        mark = found.group()
        if mark in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif mark in (b"]", b"}"):
            depth -= 1
    return deepest


def check_depth(body: bytes, most: int) -> None:
    """Refusal of a body that is nested deeper than `most`; counting brackets spares most bodies the look."""
    if body.count(b"[") + body.count(b"{") > most and depth_of(body) > most:
        raise Refusal(400, "too_deep", f"the JSON is nested deeper than {most}; send it flatter")


async def read_body(chunks: AsyncIterator[bytes], declared: str | None, most: int, seconds: float) -> bytes:
    """The whole body, refused as soon as it is too large (413) or too slow (408)."""
    too_large = Refusal(
        413, "too_large", f"the body is larger than {most:,} bytes; send fewer or shorter rows a request"
    )
    if declared is not None and declared.isdecimal() and int(declared) > most:
        raise too_large
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in chunks:
                size += len(chunk)
                if size > most:
                    raise too_large
                parts.append(chunk)
    except TimeoutError:
        raise Refusal(408, "too_slow", f"the body did not come within {seconds:g} s; send it again") from None
    return b"".join(parts)


class Buckets:
    """Requests a minute for each key: a bucket that fills steadily and holds ten seconds' worth, at least one."""

    def __init__(self) -> None:
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, rate: int, now: float | None = None) -> None:
        """Refusal (429) where the bucket is empty, with the seconds until it holds a request again."""
        if rate <= 0:
            return
        now = time.monotonic() if now is None else now
        room = max(1.0, rate / 6)
        level, then = self._levels.pop(who, (room, now))
        level = min(room, level + (now - then) * rate / 60)
        wait = (1 - level) * 60 / rate
        self._levels[who] = (level - 1 if level >= 1 else level, now)
        while len(self._levels) > MOST_BUCKETS:
            self._levels.popitem(last=False)
        if level < 1:
            raise Refusal(
                429, "too_many_requests", f"more than {rate} requests a minute; wait and send it again", wait
            )


class Room:
    """Rows on their way; where there are too many, new ones are sent away with the time after which there will be room."""

    def __init__(self, most: int) -> None:
        self.most, self.rows = most, 0
        self._speed, self._marked, self._done = 200.0, time.monotonic(), 0
        self._idle_since = self._marked

    def enter(self, rows: int) -> None:
        """Refusal (503) where the rows do not fit; an empty service takes every request that the limits allow."""
        if self.rows and self.rows + rows > self.most:
            wait = max(1.0, (self.rows + rows - self.most) / max(self._speed, 1.0))
            raise Refusal(503, "busy", "too many rows are waiting; send it again later", wait)
        if not self.rows:  # time without rows says nothing of the speed
            self._marked += time.monotonic() - self._idle_since
        self.rows += rows

    def leave(self, rows: int) -> None:
        self.rows -= rows
        self._done += rows
        now = time.monotonic()
        if (spent := now - self._marked) > 1:
            self._speed = 0.5 * self._speed + 0.5 * self._done / spent
            self._marked, self._done = now, 0
        if not self.rows:
            self._idle_since = now


def headers_of(refusal: Refusal) -> dict[str, str]:
    """Retry-After where waiting helps; what a 401 must say."""
    headers: dict[str, Any] = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after + 0.5)))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers
