"""What the tests in a real browser share: two sizes, what goes wrong on a page, screenshots to be looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def problems_of(page: Any, *own: str) -> list[str]:
    """A list that fills with what goes wrong on a page: its console, its errors, and addresses it asks for that do not begin with `own`."""
    problems: list[str] = []
    page.on(
        "console",
        lambda m: problems.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda e: problems.append(f"page error: {e}"))
    page.on("request", lambda r: None if r.url.startswith(own) else problems.append(f"asks for {r.url}"))
    return problems


def keep(page: Any, name: str) -> bytes:
    """A picture of the whole page; kept in $BASEWISE_SCREENSHOTS if that is set."""
    picture: bytes = page.screenshot(full_page=True)
    if folder := os.environ.get("BASEWISE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}.png").write_bytes(picture)
    return picture
