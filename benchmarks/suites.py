"""Claim: `bench BASE --suite all --limit 100`, at least 100 tasks offline, in under 45 minutes on two cores.

One run of the command in a fresh process and a fresh run folder; the journal's own seconds a suite stand beside the wall time.
What is met says nothing about the base; the scores are in the run folder.
Run: python benchmarks/suites.py [--base smollm2-135m --limit 100]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

MINUTES, TASKS = 45, 100
COMMAND = Path(sys.executable).parent / "basewise"
SMOKE = "piqa,blimp/wh_island,bbh/navigate,classify/sst2,recall/passkey_50"


def main() -> None:
    """Measure, print, write the result."""
    o = common.options(__doc__, base="smollm2-135m", limit=100)
    suite, limit = (SMOKE, 5) if o.smoke else ("all", o.limit)
    if not (common.data_folder() / "blimp" / "test.parquet").is_file():
        raise common.NoData("the suites' sets are not in the folder of the public sets")
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as folder:
        words = [
            str(COMMAND),
            "bench",
            o.base,
            "--suite",
            suite,
            "--limit",
            str(limit),
            "--to",
            f"{folder}/run",
        ]
        began = time.perf_counter()
        subprocess.run(words, check=True)
        seconds = time.perf_counter() - began
        found = json.loads((Path(folder) / "run" / "bench.json").read_text(encoding="utf-8"))
    suites: dict[str, float] = {}
    for cell in found["cells"]:
        name = cell["task"].partition("/")[0]
        suites[name] = suites.get(name, 0.0) + cell["seconds"]
    tasks, items = len(found["tasks"]), sum(cell["score"]["n"] for cell in found["cells"])
    met = {
        f"under {MINUTES} minutes": seconds < 60 * MINUTES,
        f"at least {TASKS} tasks": tasks >= TASKS,
    }
    base = found["bases"][0]
    headline = (
        f"{o.base}: {tasks} tasks, {items:,} items (--limit {limit}) in {seconds / 60:.1f} minutes, {base['precision']};"
        f" {base['redundancy']:.3f} tokens computed for each unique one"
    )
    print(common.table([[n, f"{s:.0f}"] for n, s in suites.items()], ["suite", "seconds"]))
    print(headline)
    result = {
        "headline": headline,
        "settings": vars(o),
        "seconds": seconds,
        "seconds_by_suite": suites,
        "tasks": tasks,
        "items": items,
        "redundancy": base["redundancy"],
        "scores": found["suites"],
        "met": met,
    }
    common.write_result("suites", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)


if __name__ == "__main__":
    main()
