"""What the tests of the web app share: the app on a folder of runs, a client or a window that was let in, a tiny base that is known by its key."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
from windows import SIZES, problems_of

TOKEN, PORT = "test-token", 8765
ORIGIN = f"http://127.0.0.1:{PORT}"
WAIT_MS = 900_000


def client(
    root: Path, *, let_in: bool = True, most_bytes: int | None = None, patience: float | None = None
) -> Any:
    """A starlette TestClient of the app, with the cookie when `let_in`; it follows no redirect by itself and waits for audits."""
    from starlette.testclient import TestClient

    from basewise.web.ui.app import MOST_BYTES, create_app

    app = create_app(root, TOKEN, PORT, most_bytes or MOST_BYTES, patience)
    made = TestClient(app, base_url=ORIGIN, follow_redirects=False, headers={"origin": ORIGIN})
    if let_in:
        made.cookies.set(f"basewise-{PORT}", TOKEN)
    return made


@contextmanager
def living(root: Path, name: str, words: list[str], **about: Any) -> Iterator[Path]:
    """The folder of a job of these words that lives: its lock is held here."""
    from basewise.web.ui import jobs

    folder = root / jobs.FOLDER / name
    folder.mkdir(parents=True)
    value = {"format": 1, "kind": words[0], "words": words, "about": about, "pid": 2**22 + 1, "started": time.time()}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(value))
    handle = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        os.close(handle)


def own_base(folder: Path) -> str:
    """A tiny base in the user's own catalogue ($BASEWISE_HOME must be set); its key."""
    from basewise.steps import bases

    made = bases.find(str(tiny.base_folder(folder)))
    bases.add(made)
    return made.key


def until(true: Callable[[], bool], what: str, seconds: float = 900.0) -> None:
    """Wait for something that another process does; the limit only ends a test that hangs."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def metrics(folder: Path, steps: int = 40, total: int = 100) -> None:
    """A pretraining run as `basewise pretrain` leaves it while it runs, with held-out scores at every tenth step."""
    folder.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        line: dict[str, Any] = {
            "step": step, "total": total, "tokens": step * 1024, "loss": 5.0 - step / 20, "norm": 1.0, "factor": min(1.0, step / 10),
            "tokens_per_second": 900.0 + step, "share_of_peak": 0.3, "seconds": step * 1.1, "drawn": step, "verdict": "take",
        }  # fmt: skip
        if step % 10 == 0:
            value = {"estimate": 3.0 - step / 50, "low": 2.9 - step / 50, "high": 3.1 - step / 50, "n": 12}
            line["bits_per_byte"] = {"books": value, "news": value, "all": value}
            line["samples"] = ["once upon <b>a</b> time"]
        lines.append(line)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 41, "tot', encoding="utf-8")
    (folder / "recipe.json").write_text(
        json.dumps({"recipe": {"name": "nightly", "rows": 8}}), encoding="utf-8"
    )


@dataclass(frozen=True)
class World:
    """The app: its address with the token, the folder of runs, the table, and the key of the table once it was dropped."""

    address: str
    root: Path
    table: Path

    @property
    def origin(self) -> str:
        return self.address.partition("/?")[0]

    @property
    def key(self) -> str:
        return next(p.parent.name for p in (self.root / ".tables").glob(f"*/{self.table.name}"))


@contextmanager
def started(root: Path, table: Path) -> Iterator[World]:
    """`basewise ui` as a user starts it, in a process of its own, over a folder of runs."""
    command = [sys.executable, "-m", "basewise.cli.main", "ui", "--runs", str(root), "--port", "0"]
    settings = {**os.environ, "PYTHONUNBUFFERED": "1"}
    app = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=settings
    )
    try:
        assert app.stdout is not None
        found = re.search(r"http://\S+", app.stdout.readline())
        assert found, "the command printed no address"
        yield World(found.group(0), root, table)
    finally:
        app.terminate()
        app.wait(timeout=60)
        if app.stdout:
            app.stdout.close()


@contextmanager
def window(
    browser: Any, world: World, size: str = "desktop", scheme: str = "light", *, clean: bool = True
) -> Iterator[Any]:
    """A page that was let in. What it says on its console and what it asks elsewhere is held against it at the end."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    problems = problems_of(page, world.origin, "data:")
    page.goto(world.address)
    yield page
    context.close()
    if clean:
        assert not problems, problems
