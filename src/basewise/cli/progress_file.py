"""Progress for other programs: with BASEWISE_PROGRESS set, what is being done also goes into that JSON file.

{"done", "total" (0: unknown), "what", "at" (seconds since 1970)}, replaced whole, at most four times a second.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from basewise.core.files import Progress

VARIABLE = "BASEWISE_PROGRESS"
LEAST_SECONDS = 0.25


def told(progress: Progress) -> Progress:
    """The same callback, which also writes the file when one is asked for. A file that cannot be written stops nothing."""
    if not (name := os.environ.get(VARIABLE)):
        return progress
    path, last, current = Path(name), 0.0, ""

    def both(done: int, total: int, what: str) -> None:
        nonlocal last, current
        progress(done, total, what)
        now = time.time()
        if what == current and now - last < LEAST_SECONDS and not (total and done >= total):
            return
        last, current = now, what
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps({"done": done, "total": total, "what": what, "at": now}))
            beside.replace(path)
        except OSError:
            return

    return both
