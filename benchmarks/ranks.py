"""Claim: FSDP2 on two local ranks equals one process to 1e-5 in every loss of 50 steps (AdamW; Muon orthogonalised in fp32); a checkpoint of two ranks goes on with 1 and 3 to 1e-5.

Muon in bf16, which is the default, is measured beside: a last bit in a gradient flips roundings in bf16, so that is not equal to 1e-5 and no
aim is set for it. The checkpoints here are those of engine/sharded.py; `pretrain` writes gathered ones, whose resumes tests/test_ranks.py checks. Started by torchrun on gloo; the network and data are those of tests/rank_worker.py.
Run: python benchmarks/ranks.py [--steps 50 --batch 12]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import common

WORKER = common.ROOT / "tests" / "rank_worker.py"
TOLERANCE = 1e-5


def losses(folder: Path, ranks: int, **job: Any) -> np.ndarray:
    """(steps, 2) losses and gradient norms of the worker on so many ranks."""
    path, out = folder / "job.json", folder / "losses.json"
    path.write_text(json.dumps({**job, "to": str(out)}))
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    )
    done = subprocess.run(
        [sys.executable, *launcher, str(WORKER), str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{ranks} ranks failed: {done.stderr[-1500:]}")
    return np.array(json.loads(out.read_text()))


def main() -> None:
    o = common.options(__doc__, steps=50, batch=12)
    steps = 4 if o.smoke else o.steps
    result: common.Json = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, muon in (("adamw", ""), ("muon fp32", "float32"), ("muon bf16", "bfloat16")):
            one, two = (losses(folder, ranks, steps=steps, batch=o.batch, muon=muon) for ranks in (1, 2))
            gap = np.abs(one - two)
            result[label] = {
                "steps": steps, "first_loss": one[0, 0], "last_loss": one[-1, 0],
                "worst_loss_gap": gap[:, 0].max(), "worst_norm_gap": gap[:, 1].max(),
            }  # fmt: skip
            print(label, result[label], flush=True)
        saved = str(folder / "saved")
        losses(folder, 2, steps=steps, batch=o.batch, save=saved)
        straight = losses(folder, 1, steps=2 * steps, batch=o.batch)[steps:]
        for ranks in (1, 2, 3):
            gap = np.abs(losses(folder, ranks, steps=steps, batch=o.batch, load=saved) - straight)
            result[f"resumed by {ranks}"] = {"steps": steps, "worst_loss_gap": gap[:, 0].max()}
            print(f"resumed by {ranks}", gap[:, 0].max(), flush=True)
    checked = [k for k in result if k != "muon bf16"]
    met = {k: bool(result[k]["worst_loss_gap"] < TOLERANCE) for k in checked}
    headline = f"largest gap of a loss over {steps} steps: " + ", ".join(
        f"{name} {one['worst_loss_gap']:.1e}" for name, one in result.items()
    )
    found = {"tolerance": TOLERANCE, "cells": result, "met": met, "headline": headline}
    common.write_result("ranks", (__doc__ or "").splitlines()[0], found, smoke=o.smoke)


if __name__ == "__main__":
    main()
