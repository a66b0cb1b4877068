"""The service's side of its worker process: requests by number, answers as they come, a new worker when one dies.

What was sent and not answered when a worker dies is sent again to the next one, after it has opened the same releases, so that a
killed worker costs time and no request. A request that has been sent three times is refused: it may be what kills them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from basewise.core import frames

MOST_SENDINGS = 3
RESTART_SECONDS = 0.5
STOPPABLE = ("predict", "generate")
START = "from basewise.steps.worker import main; main({handle})"


class WorkerError(Exception):
    """What a worker could not do. `kind`: the error's name; `mendable`: whether the message is for the user."""

    def __init__(self, kind: str, message: str, mendable: bool) -> None:
        self.kind, self.message, self.mendable = kind, message, mendable
        super().__init__(message)


@dataclass
class _Waiting:
    """A request on its way: what was sent, and where its answers go."""

    header: dict[str, Any]
    answers: asyncio.Queue[tuple[dict[str, Any], bytes]]
    sent: int = 0
    shown: int = 0
    """Characters of a generated text that have been passed on."""
    made: int = 0
    """Characters that the present worker has made of it: a second worker makes the same text again from its beginning."""


@dataclass
class Link:
    """A worker and the requests that it owes. `opened`: messages that a new worker must be given first."""

    on_restart: Any = None
    restarts: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: dict[str, str] = field(default_factory=dict)
    """What the present worker could not open again, by its name in `_opened`, and why."""
    _process: subprocess.Popen[bytes] | None = None
    _writer: asyncio.StreamWriter | None = None
    _waiting: dict[int, _Waiting] = field(default_factory=dict)
    _opened: dict[str, dict[str, Any]] = field(default_factory=dict)
    _number: int = 0
    _closing: bool = False
    _reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the first worker."""
        await self._spawn()
        self._reading = asyncio.create_task(self._read_forever())
        self.ready.set()

    async def stop(self) -> None:
        """End the worker; requests still owed are refused."""
        self._closing = True
        if self._writer is not None:
            self._writer.close()
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading
        process = self._process
        if process is not None:
            try:
                await asyncio.to_thread(process.wait, 5)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait)

    @property
    def pid(self) -> int | None:
        """The worker's process id."""
        return self._process.pid if self._process else None

    async def open(self, folder: str, version: str = "") -> dict[str, Any]:
        """Open a release in the worker, and in every later one; what it says of it."""
        about: dict[str, Any] = (await self.ask({"op": "open", "folder": folder, "version": version}))[0][
            "about"
        ]
        found = about["version"]
        self._opened[found] = {"op": "open", "folder": folder, "version": found}
        self.failed.pop(found, None)
        return about

    async def mend(self) -> None:
        """Try once more to open what a new worker could not."""
        for name in list(self.failed):
            message = self._opened.get(name)
            try:
                if message is not None:
                    await self.ask(message)
                self.failed.pop(name, None)
            except WorkerError as error:
                self.failed[name] = error.message

    async def open_base(self, name: str) -> dict[str, Any]:
        """Open a base for embeddings and generation."""
        message = {"op": "open_base", "name": name}
        about: dict[str, Any] = (await self.ask(message))[0]["about"]
        self._opened[f"base:{about['key']}"] = message
        self.failed.pop(f"base:{about['key']}", None)
        return about

    async def close(self, version: str) -> None:
        """Let the worker forget a version."""
        self._opened.pop(version, None)
        self.failed.pop(version, None)
        await self.ask({"op": "close", "version": version})

    async def rows(self, header: dict[str, Any], seconds: float) -> tuple[np.ndarray, np.ndarray | None, int]:
        """(n, width) numbers for texts, features for the watch or None, tokens. Late after `seconds`."""
        answer, body = await self.ask({"op": "predict", "seconds": seconds, **header}, seconds)
        shape = answer["shape"]
        size = int(np.prod(shape))
        values = np.frombuffer(body, np.float64, size).reshape(shape)
        features = None
        if "features" in answer:
            features = np.frombuffer(body, np.float32, offset=8 * size).reshape(answer["features"])
        return values, features, answer["tokens"]

    async def ask(self, header: dict[str, Any], seconds: float | None = None) -> tuple[dict[str, Any], bytes]:
        """One answer to one message."""
        number, waiting = self._send(header)
        try:
            async with asyncio.timeout(seconds):
                answer, body = await waiting.answers.get()
        except TimeoutError:
            raise WorkerError("Late", "the deadline passed before an answer came", False) from None
        finally:
            self._forget(number)
        if "error" in answer:
            raise WorkerError(answer["error"], answer["message"], answer["mendable"])
        return answer, body

    async def pieces(self, header: dict[str, Any]) -> AsyncIterator[tuple[str, dict[str, Any] | None]]:
        """(text, None) as a text is generated, at last (text, how it ended)."""
        number, waiting = self._send({"op": "generate", **header})
        try:
            while True:
                answer, _ = await waiting.answers.get()
                if "error" in answer:
                    raise WorkerError(answer["error"], answer["message"], answer["mendable"])
                yield answer["piece"], answer.get("end")
                if "end" in answer:
                    return
        finally:
            self._forget(number)

    def _send(self, header: dict[str, Any]) -> tuple[int, _Waiting]:
        self._number += 1
        waiting = _Waiting({**header, "id": self._number}, asyncio.Queue())
        waiting.header["until"] = time.monotonic() + header.get("seconds", 3600.0)
        self._waiting[self._number] = waiting
        self._write(waiting)
        return self._number, waiting

    def _write(self, waiting: _Waiting) -> None:
        if waiting.sent >= MOST_SENDINGS:
            gone = {"error": "WorkerGone", "message": "the worker died on this request", "mendable": False}
            waiting.answers.put_nowait((gone, b""))
            return
        if waiting.header["op"] == "predict" and waiting.header.get("version") in self.failed:
            said = "the release could not be opened again; its operator must put its folder back"
            waiting.answers.put_nowait(({"error": "NotOpen", "message": said, "mendable": False}, b""))
            return
        if self._writer is None or not self.ready.is_set():
            # a new worker is on its way and will be given it once its releases are open
            return
        waiting.sent += 1
        message = {k: v for k, v in waiting.header.items() if k != "until"}
        if "seconds" in message:
            message["seconds"] = max(0.0, waiting.header["until"] - time.monotonic())
        self._writer.write(frames.pack(message))

    def _forget(self, number: int) -> None:
        """The asker is gone or served; a worker that still computes for it is told to stop."""
        waiting = self._waiting.pop(number, None)
        if waiting is None or waiting.header.get("answered") or waiting.header["op"] not in STOPPABLE:
            return
        if self._writer is not None and not self._closing:
            self._writer.write(frames.pack({"op": "cancel", "id": 0, "of": number}))

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            theirs.set_inheritable(True)
            self._process = await asyncio.to_thread(
                subprocess.Popen,
                [sys.executable, "-P", "-c", START.format(handle=theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
                stdin=subprocess.DEVNULL,
            )
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)

    async def _read_forever(self) -> None:
        """Deliver answers; when the worker dies, start another and give it what is owed."""
        alive = True
        while not self._closing:
            try:
                if not alive:
                    await self._again()
                    alive = True
                await self._read()
            except (asyncio.IncompleteReadError, OSError):
                if not alive:
                    # it died while starting: not in a busy loop
                    await asyncio.sleep(RESTART_SECONDS)
                alive = False

    async def _read(self) -> None:
        while True:
            header_size, body_size = frames.sizes(await self._reader.readexactly(frames.LENGTHS.size))
            rest = await self._reader.readexactly(header_size + body_size)
            header = frames.header_of(rest[:header_size])
            waiting = self._waiting.get(header["id"])
            if waiting is None:
                continue
            if "piece" in header:
                fresh = _unseen(waiting, header)
                if fresh is None:
                    continue
                header = fresh
            waiting.header["answered"] = "piece" not in header or "end" in header
            waiting.answers.put_nowait((header, rest[header_size:]))

    async def _again(self) -> None:
        """A new worker in the place of a dead one: releases first, then every request that is owed."""
        self.ready.clear()
        self._writer, self.restarts = None, self.restarts + 1
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        if self.on_restart is not None:
            self.on_restart()
        await self._spawn()
        assert self._writer is not None
        names = list(self._opened)
        for place, name in enumerate(names):
            self._writer.write(frames.pack({**self._opened[name], "id": -2 - place}))
        self._writer.write(frames.pack({"op": "barrier", "id": -1}))
        found = await self._barrier()
        self.failed = {name: found[-2 - i] for i, name in enumerate(names) if -2 - i in found}
        self.ready.set()
        for waiting in list(self._waiting.values()):
            if waiting.header.get("answered"):
                continue
            waiting.made = 0
            self._write(waiting)

    async def _barrier(self) -> dict[int, str]:
        """Until everything opened before is open, or is known not to: why, by the number of its message."""
        failed: dict[int, str] = {}
        while True:
            header_size, body_size = frames.sizes(await self._reader.readexactly(frames.LENGTHS.size))
            header = frames.header_of((await self._reader.readexactly(header_size + body_size))[:header_size])
            if header["id"] == -1:
                return failed
            if "error" in header:
                failed[header["id"]] = header["message"]


def _unseen(waiting: _Waiting, header: dict[str, Any]) -> dict[str, Any] | None:
    """The part of a piece that has not been passed on yet; None where all of it has and the text goes on."""
    piece: str = header["piece"]
    fresh = piece[max(0, waiting.shown - waiting.made) :]
    waiting.made += len(piece)
    waiting.shown = max(waiting.shown, waiting.made)
    return {**header, "piece": fresh} if fresh or "end" in header else None
