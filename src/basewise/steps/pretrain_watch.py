"""The watch over a pretraining run: metrics as JSON lines, bits per byte on held-out documents, samples, checkpoints, the live page.

Everything is written into the run folder while the run goes on; the page and the terminal only read it. A resumed run cuts the
metrics back to the checkpoint that it goes on from, so no step stands there twice.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from basewise.core.errors import BasewiseError
from basewise.core.files import write_text
from basewise.core.recipe import Recipe
from basewise.engine.checkpoint import Writer, at_step, latest
from basewise.engine.distributed import ALONE, Ranks, fill
from basewise.engine.distributed import whole as gather
from basewise.engine.loop import Seen, State, Watch
from basewise.steps.pretrain_data import Corpus
from basewise.steps.pretrain_sinks import ENDED, FAILED, STOPPED, Sink

METRICS, CHECKPOINTS = "metrics.jsonl", "checkpoints"
MOST_LINES = 5000
PAGE_SECONDS = 2.0


@dataclass
class PretrainWatch(Watch):
    """Looks at the loop and writes down what it sees."""

    recipe: Recipe
    corpus: Corpus
    folder: Path
    network: Any
    flop_per_token: float
    peak: float
    announce: Callable[[str], None]
    bf16: bool = False
    tokens_at_once: int = 0
    """Of a micro-batch; 0: a step is computed whole, as its rows are each other's negatives."""
    total: int = 0
    schedule: Callable[[int, int], float] | None = None
    branch: tuple[Path, int] | None = None
    """A cooldown: the run folder and the step whose checkpoint it goes on from."""
    ranks: Ranks = ALONE
    """Where there are many, each has its watch; all gather together, only the first writes."""
    sharded: Any = None
    """The network that is trained where it is sharded; `network` is then a plain twin, filled before it is looked at."""
    begun: Callable[[State], None] | None = None
    sinks: list[Sink] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = Writer(self.folder / CHECKPOINTS, self.recipe.keep, self.announce)
        self._last = (0, 0.0)
        self._aside = self._aside_before = 0.0
        self._page = 0.0
        self._budget = self.tokens_at_once
        self._told: set[str] = set()
        self._unwritten = b""
        self.began_at = 0
        self.verdict = ""
        """Of the last step of this session; empty before the first."""

    def __enter__(self) -> PretrainWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Also after a stop: what is being written is waited for, as the folder's lock is given up next; logs are closed."""
        self.writer.join()
        self.page(last=True)
        state = (
            ENDED
            if kind is None
            else STOPPED
            if issubclass(kind, (KeyboardInterrupt, SystemExit))
            else FAILED
        )
        for sink in self.sinks:
            try:
                sink.close(state)
            except Exception as error:  # noqa: BLE001 - a log that is away must not cost the base that was trained
                self.announce(f"a log could not be closed: {error}")

    # -------------------------------------------------------- the loop's questions

    def start(self) -> State | None:
        """The newest checkpoint that holds; for a cooldown that has none of its own, the one it branches from."""
        found = latest(self.folder / CHECKPOINTS, self._say)
        if found is None and self.branch is not None:
            of_another, facts = at_step(self.branch[0] / CHECKPOINTS, self.branch[1])
            found = replace(of_another, total=0), facts
        if found is None:
            self._cut(0)
            return None
        state, facts = found
        self.total = min(self.total, state.total or self.total)
        if facts.get("ranks", 1) != self.ranks.world:
            self._say(
                f"the run was saved by {facts['ranks']} processes and goes on with {self.ranks.world}: the same rows in the same"
                " order, sums rounded differently"
            )
        self._cut(state.step)
        self._last = (state.step, state.spent)
        if self.begun:
            self.begun(state)
        self.began_at = state.step
        self._say(f"going on from step {state.step}")
        return state

    def after(self, seen: Seen, state: Callable[[], State]) -> bool:
        """Write the step down; evaluate and save when it is time."""
        r = self.recipe
        last = seen.step >= seen.total
        self.verdict = seen.verdict
        line = self._line(seen)
        if seen.verdict != "take":
            self._say(f"step {seen.step} was not learned from: loss {seen.loss:.4g} ({seen.verdict})")
        if seen.budget != self._budget:
            self.announce(_less_memory(self._budget, seen.budget))
            self._budget = seen.budget
        self.total = seen.total
        if seen.step % r.evaluate_every == 0 and not last:
            line |= self.evaluate()
        if seen.step % max(1, seen.total // MOST_LINES) == 0 or len(line) > 12:
            self._write(line)
        stable = self._leaves_stable(seen)
        if (seen.step % r.checkpoint_every == 0 or last or stable) and seen.verdict == "take":
            facts = {"ranks": self.ranks.world, "factor": seen.factor, "stays": stable}
            # gathered: all ranks take part
            now = state()
            if not all(bool(value.isfinite().all()) for value in now.model.values()):
                self._say(f"step {seen.step}: weights are not finite, no checkpoint is kept of them")
            elif self.ranks.first:
                self.writer.put(now, facts)
        self.page(last)
        return False

    def back(self) -> State | None:
        """The last good checkpoint, which the run is rolled back to."""
        self.writer.close()
        # the first has written what it had
        self.ranks.wait()
        found = latest(self.folder / CHECKPOINTS, self._say)
        if found is None:
            return None
        self._say(
            f"losses stayed bad: back to step {found[0].step}, going on with the rows after the bad ones"
        )
        self._cut(found[0].step)
        self._last = (found[0].step, found[0].spent)
        return found[0]

    # -------------------------------------------------------- what is written

    def _line(self, seen: Seen) -> dict[str, Any]:
        before, then = self._last
        seconds = max(seen.seconds - then - (self._aside - self._aside_before), 1e-9)
        self._last, self._aside_before = (seen.step, seen.seconds), self._aside
        rate = (seen.step - before) * self.recipe.rows * self.recipe.context / seconds
        return {
            "step": seen.step,
            "total": seen.total,
            "tokens": seen.step * self.recipe.rows * self.recipe.context,
            "loss": _finite(seen.loss),
            "norm": _finite(seen.norm),
            "factor": seen.factor,
            "tokens_per_second": rate,
            "share_of_peak": rate * self.flop_per_token / self.peak,
            "seconds": seen.seconds,
            "evaluation_seconds": self._aside,
            "drawn": seen.drawn,
            "verdict": seen.verdict,
        }

    def evaluate(self, whole: bool = False) -> dict[str, Any]:
        """Bits per byte (or the loss at hidden tokens) per source and in all, with an interval over documents; samples.

        On the way the beginnings of the documents are scored, at the end (`whole`) all of them. A sharded network is gathered
        into its plain twin first, by all ranks; the others than the first have nothing to say.
        """
        from basewise.steps.pretrain_scores import ON_THE_WAY, score

        began = time.perf_counter()
        if self.sharded is not None:
            gathered = {name: gather(value.detach()) for name, value in self.sharded.state_dict().items()}
            if not self.ranks.first:
                return {}
            fill(self.network, gathered)
        self.network.eval()
        found = score(self.network, self.corpus, self.recipe, self.bf16, 0 if whole else ON_THE_WAY)
        self.network.train()
        self._aside += time.perf_counter() - began
        return found

    def _say(self, line: str) -> None:
        if self.ranks.first:
            self.announce(line)

    def _write(self, line: dict[str, Any]) -> None:
        if not self.ranks.first:
            return
        self._unwritten += json.dumps(line).encode() + b"\n"
        try:
            _append(self.folder / METRICS, self._unwritten)
            self._unwritten = b""
        except OSError as error:  # a full disk: the lines wait, as the training goes on
            if "metrics" not in self._told:
                self._told.add("metrics")
                self.announce(f"the metrics wait, they could not be written: {error.strerror}")
        for sink in list(self.sinks):
            try:
                sink.write(line)
            except Exception as error:  # noqa: BLE001 - a log that is away must not cost the base that is trained
                self.sinks.remove(sink)
                self.announce(f"a log could not be written, the run goes on without it: {str(error)[:160]}")

    def _cut(self, step: int) -> None:
        """Keep only the metrics up to `step`."""
        path = self.folder / METRICS
        if not self.ranks.first:
            return
        if not path.exists():
            path.write_text("", encoding="utf-8")
            return
        lines = []
        waiting, self._unwritten = self._unwritten.decode(), b""
        for text in (path.read_text(encoding="utf-8") + waiting).splitlines():
            try:
                if json.loads(text)["step"] <= step:
                    lines.append(text)
            except (ValueError, KeyError):
                continue  # the last line of a process that was killed while it wrote
        write_text(path, "".join(text + "\n" for text in lines))

    def _leaves_stable(self, seen: Seen) -> bool:
        """Whether this is the last step before the rates fall: the place for cooldown branches."""
        if self.schedule is None or self.branch is not None:
            return False
        following = self.schedule(seen.step, seen.total)
        return seen.factor >= 1.0 and following < 1.0

    def page(self, last: bool = False) -> None:
        """The live page, at most every two seconds."""
        now = time.monotonic()
        if self.ranks.first and (last or now - self._page > PAGE_SECONDS):
            self._page = now
            try:
                importlib.import_module("basewise.web.pretrain").write_page(self.folder)
            except (BasewiseError, OSError) as error:
                if "page" not in self._told:
                    self._told.add("page")
                    self.announce(f"the page could not be written: {error}")


def _append(path: Path, lines: bytes) -> None:
    """Add whole lines or none."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            file.truncate(before)
            raise


def _less_memory(before: int, now: int) -> str:
    """What to write into the recipe after memory ran out."""
    if before:
        return f"memory ran out with {before} tokens at once; {now} fit: write tokens_at_once = {now}"
    return (
        f"memory ran out on a whole step, which is now cut into pieces of {now} tokens, so that each row is told apart"
        f" from fewer others: write a smaller batch_tokens"
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
