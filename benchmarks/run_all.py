"""All benchmarks one after the other, each in its own process; --smoke runs each for a moment to see that it works, two at a time.

A benchmark that has nothing to measure here (no public sets, no rivals installed: exit code 3) is named and does not fail a
smoke run. Everything else that ends badly does.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from common import ROOT

NOT_ONES = {"common", "run_all", "serving"}
NO_DATA = 3


def benchmarks() -> list[str]:
    """Names of the benchmark files, quick ones first; workers (peer_*, ours_*) are not benchmarks."""
    names = {p.stem for p in (ROOT / "benchmarks").glob("*.py")} - NOT_ONES
    late = ["choice", "all_labels", "few_labels"]
    names = {n for n in names if not n.startswith(("peer_", "ours_"))}
    return sorted(names - set(late)) + [n for n in late if n in names]


def run(name: str, smoke: bool) -> str:
    """One benchmark; how it ended. A smoke run holds its output back until it has ended, so that two do not mix."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *(["--smoke"] if smoke else [])]
    if not smoke:
        print(f"\n--- {name}", flush=True)
    held = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if smoke else {}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, check=False, **held)
    word = {0: "done", NO_DATA: "nothing to measure here"}.get(done.returncode, f"failed ({done.returncode})")
    ended = f"{word}, {time.perf_counter() - began:.0f} s"
    if smoke:
        print(f"\n--- {name}: {ended}\n{done.stdout}", flush=True)
    return ended


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--smoke", action="store_true", help="a moment each; writes no result file")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(benchmarks())}; all when left out")
    o = parser.parse_args()
    names = o.names or benchmarks()
    with ThreadPoolExecutor(2 if o.smoke else 1) as pool:
        outcome = dict(zip(names, pool.map(lambda name: run(name, o.smoke), names), strict=True))
    print("\n" + "\n".join(f"{name:16} {word}" for name, word in outcome.items()))
    if any(word.startswith("failed") for word in outcome.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
