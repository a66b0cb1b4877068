"""Claim: the plan's memory of a rank is within 5 % of torch's tracker on five shapes up to 70 billion parameters and 1,024 ranks; its step time within 15 % on two local ranks, on shapes that it was not calibrated on.

Memory: fake tensors and a fake process group, so nothing is allocated and no number computed; the closed form uses none of the tracker's
answers. Time: FSDP2 on two gloo ranks in fp32, one thread each; four shapes calibrate share of the peak, rate of the links and
overhead of a micro-batch, three others are predicted; all take turns, three rounds of --steps. Each error stands in the result.
Run: python benchmarks/plan.py [--steps 9 --only memory,time]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import common

MEMORY_WITHIN, TIME_WITHIN = 0.05, 0.15
RANKS = 2


def five() -> list[tuple[str, Any, int, int, bool]]:
    """(name, shape, ranks, rows, recompute): GPT-2 small to Llama 3 70B."""
    from basewise.core.shapes import Shape

    llama = {"kind": "llama", "kv_heads": 8, "vocabulary": 128256, "tied": False}
    qwen = {"kind": "qwen3", "kv_heads": 8, "vocabulary": 151936, "head_width": 128}
    return [
        ("gpt2 124M", Shape(kind="gpt2", layers=12, width=768, heads=12, kv_heads=12, inner=3072, vocabulary=50304, context=1024), 8, 8, False),
        ("qwen3 0.6B", Shape(**qwen, layers=28, width=1024, heads=16, inner=3072, context=2048), 16, 4, False),
        ("llama 8B", Shape(**llama, layers=32, width=4096, heads=32, inner=14336, context=8192), 64, 1, True),
        ("qwen3 32B", Shape(**qwen, layers=64, width=5120, heads=64, inner=25600, context=4096, tied=False), 256, 1, True),
        ("llama 70B", Shape(**llama, layers=80, width=8192, heads=64, inner=28672, context=4096), 1024, 1, True),
    ]  # fmt: skip


def memory(smoke: bool) -> common.Json:
    """Planned and tracked bytes of each shape."""
    from basewise.core.shapes import parameters
    from basewise.engine import tracked
    from basewise.stats.plan_memory import Layout, peak

    if missing := tracked.available():
        return {"error": missing}
    cells = {}
    for name, shape, world, rows, recompute in five()[: 1 if smoke else None]:
        real = tracked.peak(tracked.network_of(shape), world, rows, shape.context, recompute)
        moment, parts = peak(shape, Layout(data=world, rows=rows, recompute=recompute))
        planned = sum(parts.values())
        cells[name] = {
            "parameters": parameters(shape), "ranks": world, "planned": planned, "tracked": real["Total"],
            "error": planned / real["Total"] - 1, "moment": moment, "planned_parts": parts, "tracked_parts": real,
        }  # fmt: skip
        print(
            f"{name}: {planned / 1e9:.2f} GB planned, {real['Total'] / 1e9:.2f} tracked ({cells[name]['error']:+.1%})",
            flush=True,
        )
    worst = max(abs(c["error"]) for c in cells.values())
    return {"cells": cells, "worst": worst, "met": worst < MEMORY_WITHIN and len(cells) == len(five())}


def shapes() -> tuple[list[common.Json], list[common.Json]]:
    """(calibrated on, held out): small decoders of several widths, depths, batches and micro-batches."""

    def one(layers: int, width: int, vocabulary: int, context: int, rows: int, micro: int) -> common.Json:
        heads = max(2, width // 64)
        return {
            "kind": "qwen3", "layers": layers, "width": width, "heads": heads, "kv_heads": heads, "inner": -(-8 * width // 3 // 64) * 64,
            "vocabulary": vocabulary, "context": context, "rows": rows, "micro_batches": micro,
        }  # fmt: skip

    return (
        [
            one(2, 128, 2048, 128, 8, 1),
            one(4, 256, 4096, 256, 4, 1),
            one(6, 256, 2048, 128, 16, 2),
            one(4, 384, 4096, 128, 4, 1),
        ],
        [one(4, 192, 4096, 128, 8, 2), one(6, 320, 2048, 256, 4, 1), one(3, 256, 8192, 128, 8, 1)],
    )


def times(steps: int, smoke: bool) -> common.Json:
    """Seconds a step on two local ranks, measured and predicted."""
    from basewise.core.shapes import Shape
    from basewise.stats.plan_memory import Layout
    from basewise.stats.plan_time import Seen, calibrated, step_time, work
    from basewise.steps.plan_hardware import here

    known, held = shapes()
    asked = [known[0], held[0]] if smoke else known + held
    with tempfile.TemporaryDirectory() as name:
        job, answer = Path(name) / "job.json", Path(name) / "answer.json"
        job.write_text(json.dumps({"shapes": asked, "steps": steps}))
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={RANKS}",
        ]
        script = str(common.ROOT / "benchmarks" / "ours_steps.py")
        done = subprocess.run(
            [*launcher, script, str(job), str(answer)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return {"error": done.stderr[-1500:]}
        measured = json.loads(answer.read_text())
    machine, runs, laid = here(RANKS), [], []
    for one, seconds in zip(asked, measured, strict=True):
        values = dict(one)
        layout = Layout(data=RANKS, rows=values.pop("rows"), micro_batches=values.pop("micro_batches"))
        shape = Shape(**values)
        flop, fetched, micro = work(shape, layout, machine)
        laid.append((shape, layout))
        runs.append(
            Seen(
                ranks=RANKS, flop=flop, fetched=fetched, micro_batches=micro, predicted=0.0, measured=seconds
            )
        )
    count = 1 if smoke else len(known)
    learned = calibrated(machine, runs[:count])
    cells = []
    for (shape, layout), run in list(zip(laid, runs, strict=True))[count:]:
        guess = step_time(shape, layout, learned).total
        cells.append({"shape": asdict(shape), "rows": layout.rows, "micro_batches": layout.micro_batches,
                      "measured": run.measured, "predicted": guess, "error": guess / run.measured - 1})  # fmt: skip
        print(
            f"{shape.layers} x {shape.width}: {guess:.3f} s predicted, {run.measured:.3f} measured ({cells[-1]['error']:+.1%})",
            flush=True,
        )
    worst = max(abs(c["error"]) for c in cells)
    return {
        "calibration": {"share": learned.share, "bytes_a_second": learned.near_rate, "overhead": learned.step_overhead,
                        "runs": [asdict(r) for r in runs[:count]]},
        "cells": cells, "worst": worst, "met": worst < TIME_WITHIN,
    }  # fmt: skip


def summary(result: common.Json) -> common.Json:
    """The worst errors in a sentence, and which aims are met."""
    said, met = [], {}
    if memory_ := result.get("memory"):
        off = [name for name, c in memory_["cells"].items() if abs(c["error"]) >= MEMORY_WITHIN]
        said.append(
            f"memory of {len(memory_['cells'])} shapes within {memory_['worst']:.1%} of the tracker"
            + (f" (beyond 5 %: {', '.join(off)})" if off else "")
        )
        met["memory within 5 % on five shapes"] = memory_["met"]
    if time_ := result.get("time"):
        said.append(
            f"step time on {RANKS} local ranks within {time_['worst']:.1%} on {len(time_['cells'])} shapes held out"
        )
        met["step time within 15 % on two ranks"] = time_["met"]
    return {"headline": "; ".join(said), "met": met}


def main() -> None:
    o = common.options(__doc__, steps=9, only=("memory", "time"))
    result: common.Json = {}
    if "memory" in o.only:
        result["memory"] = memory(o.smoke)
    if "time" in o.only:
        result["time"] = times(2 if o.smoke else o.steps, o.smoke)
    failed = [key for key, value in result.items() if "error" in value]
    if not failed:
        result |= summary(result)
        print(result["headline"])
    common.write_result("plan", (__doc__ or "").splitlines()[0], result, smoke=o.smoke)
    if failed:
        raise SystemExit(f"not measured: {failed}")


if __name__ == "__main__":
    main()
