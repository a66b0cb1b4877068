"""The worker: a host in a process of its own, so that HTTP and forward passes do not share an interpreter.

It reads messages (`core/frames.py`) from a socket and answers each by its number. Predictions go through the queue; opening a
release happens beside them in its own thread; texts are generated in another (`steps/writing.py`). When the socket closes, it ends.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from basewise.core import frames
from basewise.core.errors import BasewiseError
from basewise.steps.hosting import Answered, Host
from basewise.steps.queueing import Job, Late, Queue
from basewise.steps.writing import Texts


class Worker:
    """Messages in, answers out; `send(header, body)` may be called from any thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rb")
        self._connection = connection
        self._sending = threading.Lock()
        self.host = Host()
        self.queue = Queue(self.host.answer, self._finish)
        self.texts = Texts(self.host.base_named, self.send, self.fail)
        self._opening = ThreadPoolExecutor(1)

    def run(self) -> None:
        """Until the socket closes."""
        threading.Thread(target=self.queue.run, daemon=True).start()
        threading.Thread(target=self.texts.run, daemon=True).start()
        while (message := frames.read(self._file)) is not None:
            header = message[0]
            try:
                self._take(header)
            except Exception as error:  # noqa: BLE001 - every message is answered
                self.fail(header.get("id", 0), error)
        self.queue.close()
        self._opening.shutdown(wait=False, cancel_futures=True)

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """One message; a socket that is gone ends the reading loop, not this."""
        with self._sending:
            try:
                self._connection.sendall(frames.pack(header, body))
            except OSError:
                return

    def fail(self, number: int, error: BaseException) -> None:
        """What went wrong: in words where the user can mend it, else only its kind."""
        kind = type(error).__name__
        if isinstance(error, Late):
            kind, message = "Late", "the deadline passed before the rows were computed"
        elif isinstance(error, BasewiseError):
            message = str(error)
        else:
            message = "internal error"
        self.send(
            {"id": number, "error": kind, "message": message, "mendable": isinstance(error, BasewiseError)}
        )

    def _take(self, header: dict[str, Any]) -> None:
        """Start on one message."""
        op, number = header["op"], int(header["id"])
        if op == "predict":
            self._predict(number, header)
        elif op == "cancel":
            self.queue.cancel(int(header["of"]))
            self.texts.cancel(int(header["of"]))
        elif op == "generate":
            self.texts.add(number, header)
        elif op in ("open", "open_base", "close", "barrier"):
            self._opening.submit(self._slow, number, op, header)
        elif op == "ping":
            self.send({"id": number, "open": len(self.host.bases.open)})
        else:
            raise BasewiseError(f"unknown message {op!r}", "use one version of basewise throughout")

    def _predict(self, number: int, header: dict[str, Any]) -> None:
        """Tokens are counted here, before any forward pass; the queue does the rest."""
        texts, version = header["texts"], header.get("version") or self.host.embedder(header["name"])
        tokens, count = self.host.tokens(version, texts)
        if count > header["most_tokens"]:
            raise TooManyTokens(count, header["most_tokens"])
        lengths = tokens.lengths if tokens is not None else np.array([1 + len(t) // 4 for t in texts])
        deadline = time.monotonic() + header["seconds"]
        job = Job(number, version, texts, tokens, lengths, deadline, header.get("watched", False))
        job.beside = header.get("beside", False)
        self.queue.add(job)

    def _finish(self, job: Job, answered: Answered) -> None:
        if answered.error is not None:
            self.fail(job.number, answered.error)
            return
        body = np.ascontiguousarray(answered.probabilities, np.float64).tobytes()
        header = {"id": job.number, "shape": answered.probabilities.shape, "tokens": int(job.lengths.sum())}
        if answered.features is not None:
            header["features"] = answered.features.shape
            body += np.ascontiguousarray(answered.features, np.float32).tobytes()
        self.send(header, body)

    def _slow(self, number: int, op: str, header: dict[str, Any]) -> None:
        """What may take seconds, beside the queue."""
        try:
            if op == "open":
                self.send(
                    {"id": number, "about": self.host.open(header["folder"], header.get("version", ""))}
                )
            elif op == "open_base":
                self.send({"id": number, "about": self.host.open_base(header["name"])})
            else:
                # a barrier only says that everything before it is done
                if op == "close":
                    self.host.close(header["version"])
                self.send({"id": number})
        except Exception as error:  # noqa: BLE001 - every message is answered
            self.fail(number, error)


class TooManyTokens(BasewiseError):
    """A request beyond the limit in tokens."""

    def __init__(self, count: int, most: int) -> None:
        super().__init__(
            f"the request has {count:,} tokens, at most {most:,} are allowed", "send fewer rows a request"
        )


def main(handle: int) -> None:
    """Entry point of the process: `handle` is the inherited socket."""
    import signal

    # Ctrl-C is the service's business, which then closes the socket
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # heads are small, and numpy's threads would fight with the network's
    with threadpool_limits(1, "blas"):
        Worker(socket.socket(fileno=handle)).run()
    # nothing is left to be written; threads that still compute would be torn down midway, and torch then aborts
    os._exit(0)
