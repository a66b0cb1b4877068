"""Claim: killed with SIGKILL at 20 random moments, a pretraining run goes on exactly each time.

One run is left alone and the digests of all its checkpoints are kept. The same run is then killed 20 times, each time at a random moment after it
has made at least one more checkpoint; every checkpoint that it writes must have the digests (weights, optimiser, random state) of the
whole run's, and so must its end. The text is made here, so nothing but the package is needed.
Run: python benchmarks/resume.py [--kills 20 --seed 0]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import common


def write_recipe(folder: Path, steps: int) -> Path:
    """A small mixed run by character on made text; every fifth step is saved and stays."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), int(rng.integers(2, 8)))) for _ in range(200)]
    (folder / "text.txt").write_text(" ".join(rng.choice(words, 20_000)), encoding="utf-8")
    path = folder / "recipe.toml"
    path.write_text(
        f'name = "resume"\ncorpus = {json.dumps(str(folder / "text.txt"))}\nobjective = "mixed"\ndepth = 2\nwidth = 64\nheads = 2\n'
        f"context = 32\nsteps = {steps}\nbatch_tokens = 512\ntokens_at_once = 256\nevaluate_every = 1000000\ncheckpoint_every = 5\nkeep = 100000\n",
        encoding="utf-8",
    )
    return path


def digests(folder: Path) -> dict[str, Any]:
    """{checkpoint: digests of its two files} of all that are there."""
    found = {}
    for path in sorted((folder / "checkpoints").glob("step-*")):
        try:
            found[path.name] = json.loads((path / "state.json").read_text(encoding="utf-8"))["digests"]
        except (OSError, ValueError, KeyError):
            # being written
            continue
    return found


def start(recipe: Path, folder: Path) -> subprocess.Popen[bytes]:
    """The command in a fresh process."""
    command = [sys.executable, "-m", "basewise.cli.main", "pretrain", str(recipe), "--to", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_once(recipe: Path, folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Start, wait for one more checkpoint and a random moment (up to half a second) more, kill."""
    before = set(digests(folder))
    child = start(recipe, folder)
    while child.poll() is None and set(digests(folder)) <= before:
        time.sleep(0.01)
    time.sleep(float(rng.uniform(0, 0.5)))
    ended = child.poll() is not None
    if not ended:
        child.send_signal(signal.SIGKILL)
    child.wait()
    half = len(list((folder / "checkpoints").glob(".step-*")))
    return {"checkpoints": len(digests(folder)), "ended_before": ended, "half_written": half}


def main() -> None:
    """The whole run, the killed one, the comparison."""
    o = common.options(__doc__, kills=20, seed=0)
    kills, steps = (1, 25) if o.smoke else (o.kills, 60 * o.kills)
    rng = np.random.default_rng(o.seed)
    with tempfile.TemporaryDirectory(prefix="basewise-bench-") as temporary:
        folder = Path(temporary)
        recipe = write_recipe(folder, steps)
        if start(recipe, folder / "whole").wait():
            raise SystemExit("the whole run failed")
        runs = [kill_once(recipe, folder / "cut", rng) for _ in range(kills)]
        if start(recipe, folder / "cut").wait():
            raise SystemExit("the killed run could not be finished")
        whole, cut = digests(folder / "whole"), digests(folder / "cut")
        same = sum(cut.get(name) == value for name, value in whole.items())
        ends = [(folder / name / "base" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    killed = sum(not r["ended_before"] for r in runs)
    exact = ends[0] == ends[1] and same == len(whole)
    result = {
        "kills": killed, "runs": runs, "checkpoints": len(whole), "same_checkpoints": same, "same_end": ends[0] == ends[1],
        "met": {"20 of 20 resumes exact": exact and killed >= 20},
        "headline": f"killed {killed} times: {same} of {len(whole)} checkpoints and the end {'are' if exact else 'are NOT'} those of the whole run, bit for bit",
    }  # fmt: skip
    print(result["headline"])
    common.write_result(
        "resume", (__doc__ or "").splitlines()[0], {"settings": vars(o), **result}, smoke=o.smoke
    )
    if not exact:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
