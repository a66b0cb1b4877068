"""What the tests of the web app share: the app on a folder of runs, a client that was let in, a tiny base that is known by its key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny

TOKEN, PORT = "test-token", 8765
ORIGIN = f"http://127.0.0.1:{PORT}"


def client(root: Path, *, let_in: bool = True, most_bytes: int | None = None) -> Any:
    """A starlette TestClient of the app, with the cookie when `let_in`; it follows no redirect by itself."""
    from starlette.testclient import TestClient

    from basewise.web.ui.app import MOST_BYTES, create_app

    app = create_app(root, TOKEN, PORT, most_bytes or MOST_BYTES)
    made = TestClient(app, base_url=ORIGIN, follow_redirects=False, headers={"origin": ORIGIN})
    if let_in:
        made.cookies.set("basewise", TOKEN)
    return made


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
