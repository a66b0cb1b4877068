"""What a newcomer meets between the pages: a button pressed twice, a form that was refused, a table that takes long to look over."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import ui_world
from basewise.web.ui import jobs


@contextmanager
def living(root: Path, name: str, kind: str = "choose", **about: Any) -> Iterator[Path]:
    """A job that lives: its lock is held here."""
    folder = root / jobs.FOLDER / name
    folder.mkdir(parents=True)
    value = {"format": 1, "kind": kind, "words": [kind, "x.csv"], "about": about, "pid": 2**22 + 1, "started": time.time()}  # fmt: skip
    (folder / "job.json").write_text(json.dumps(value))
    handle = os.open(folder / "alive", os.O_CREAT | os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        os.close(handle)


def test_a_second_press_on_stop_does_not_throw_the_best_so_far_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(jobs, "stop", lambda job: sent.append(job.name))
    root = tmp_path / "runs"
    with living(root, "queue", table="0" * 16):
        client = ui_world.client(root)
        assert "Stop and keep the best so far" in client.get("/runs/queue").text
        for _ in range(3):  # a page that was not loaded anew, another tab, an impatient hand
            assert client.post("/runs/queue/stop").status_code == 303
        assert sent == ["queue"]
        text = client.get("/runs/queue").text
        assert "Stopping: the best so far" in text and "Stop and keep" not in text
        assert "Stopping: the best so far" in client.get("/runs/queue/live").text
        assert client.post("/runs/queue/stop", data={"at_once": "yes"}).status_code == 303
        assert sent == ["queue", "queue"], "who does not want to wait says so"
    monkeypatch.setattr(jobs, "start", lambda root, name, words, about: sent.append(str(about)))
    assert client.post("/runs/queue/resume").status_code == 303
    assert "stopping" not in sent[-1] and "table" in sent[-1]
