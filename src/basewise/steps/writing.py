"""The texts that a worker is asked to generate: those of one base grow together, a token of each a step.

A text joins as soon as its prompt is read and leaves when it ends, is cancelled or runs past its deadline; one that finds no room
in the buffers waits for another to leave.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from basewise.core.base import Base
from basewise.steps.queueing import Late

if TYPE_CHECKING:
    import numpy as np

    from basewise.engine.generate import Answer, Sampling
    from basewise.engine.growing import Growing, Grown


@dataclass
class _Text:
    """One request: what was asked, its deadline on the monotonic clock, its prompt once it is read, what of it has been sent."""

    number: int
    header: dict[str, Any]
    deadline: float
    prompt: str = ""
    tokens: np.ndarray | None = None
    sampling: Sampling | None = None
    shown: str = ""


class Texts:
    """The generating thread; `add` and `cancel` may be called from others.

    base_named: opens a base; send(header): one message to the caller; fail(number, error): the same for what went wrong.
    """

    def __init__(
        self,
        base_named: Callable[[str], Base],
        send: Callable[[dict[str, Any]], None],
        fail: Callable[[int, BaseException], None],
    ) -> None:
        self._base_named, self._send, self._fail = base_named, send, fail
        self._changed = threading.Condition()
        self._waiting: list[_Text] = []
        self._open: set[int] = set()
        """Requests that have not ended."""
        self._cancelled: set[int] = set()
        self._live: dict[int, _Text] = {}
        self._growing: dict[str, Growing] = {}

    def add(self, number: int, header: dict[str, Any]) -> None:
        """A request; its answer begins with the next step."""
        with self._changed:
            self._open.add(number)
            self._waiting.append(_Text(number, header, time.monotonic() + header["seconds"]))
            self._changed.notify()

    def cancel(self, number: int) -> None:
        """Nothing more is generated for this request; nobody is told."""
        with self._changed:
            self._waiting = [text for text in self._waiting if text.number != number]
            self._cancelled |= {number} & self._open

    def run(self) -> None:
        """For ever: let in what waits, then a token for every text."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._live)
                waiting, self._waiting = self._waiting, []
                cancelled, self._cancelled = self._cancelled, set()
                self._open -= cancelled
            for number in cancelled & self._live.keys():
                self._forget(number)
            full: set[str] = set()
            kept = [text for text in waiting if text.number not in cancelled and not self._begin(text, full)]
            with self._changed:
                self._waiting = [*kept, *self._waiting]
            for name in list(self._growing):
                self._step(name)

    def _begin(self, text: _Text, full: set[str]) -> bool:
        """Let a text in; False where there is no room for it yet, and then for none behind it on the same base (`full`)."""
        from basewise.engine.causal import opened

        name = text.header["name"]
        try:
            if time.monotonic() > text.deadline:
                raise Late
            if name in full:
                return False
            tokens, sampling = self._read(text)
            if name not in self._growing:
                self._growing[name] = opened(self._base_named(name)).growing()
            growing = self._growing[name]
            if not growing.fits(tokens, sampling):
                full.add(name)
                return False
            self._live[text.number] = text
            self._tell(*growing.add(text.number, tokens, sampling, text.prompt))
        except Exception as error:  # noqa: BLE001 - one text's failure is its own
            self._live.pop(text.number, None)
            self._end(text.number, error)
        return True

    def _read(self, text: _Text) -> tuple[np.ndarray, Sampling]:
        """Tokens of a prompt and how to go on: made once, however many steps the text waits for."""
        from basewise.engine.causal import opened
        from basewise.engine.generate import Sampling

        if text.tokens is None or text.sampling is None:
            header = text.header
            causal = opened(self._base_named(header["name"]))
            talk = "messages" in header
            text.prompt = causal.chat(header["messages"]) if talk else header["prompt"]
            options = header["options"]
            text.sampling = Sampling(**{**options, "stop": tuple(options.get("stop", ()))})
            text.tokens = causal.prompt_tokens(text.prompt, text.sampling, False if talk else None)
        return text.tokens, text.sampling

    def _step(self, name: str) -> None:
        """A token more for every text of a base; the base is let go of with the last of them."""
        growing = self._growing[name]
        if not len(growing):
            del self._growing[name]
            return
        try:
            grown: list[Grown] = growing.step()
        except Exception as error:  # noqa: BLE001 - those that grow together fail together, the thread goes on
            del self._growing[name]
            for number in [n for n, text in self._live.items() if text.header["name"] == name]:
                del self._live[number]
                self._end(number, error)
            return
        for each in grown:
            self._tell(*each)

    def _tell(self, number: int, text: str, answer: Answer | None) -> None:
        """Send what is new of a text, and how it ended; one past its deadline ends here."""
        from basewise.engine.generate import news

        known = self._live[number]
        tokens, sampling = self._read(known)
        piece = news(known.shown, text, answer is not None, sampling.stop)
        known.shown += piece
        end = None
        if answer is not None:
            ended = "length" if answer.ended in ("length", "unmatched") else "stop"
            end = {"ended": ended, "prompt_tokens": len(tokens), "tokens": answer.tokens}
        if piece or end:
            self._send({"id": number, "piece": piece, **({"end": end} if end else {})})
        if end is not None:
            del self._live[number]
            self._end(number)
        elif time.monotonic() > known.deadline:
            self._forget(number)
            self._end(number, Late())

    def _end(self, number: int, error: BaseException | None = None) -> None:
        """A request is over; its caller is told what went wrong."""
        with self._changed:
            self._open.discard(number)
        if error is not None:
            self._fail(number, error)

    def _forget(self, number: int) -> None:
        """Take a text out before it has ended."""
        text = self._live.pop(number)
        self._growing[text.header["name"]].cancel(number)
